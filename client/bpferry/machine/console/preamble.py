# SPDX-License-Identifier: LGPL-2.1-or-later
"""What QEMU writes on its standard output before the guest does."""

import re
from typing import Final

OWN_START: Final = b"char device redirected to "
OWN_LINE: Final = re.compile(OWN_START + rb"[^\n]+\n")
"""What QEMU says of a pseudo-terminal (chardev/char.c)."""


class Preamble:
    """Removes the lines in which QEMU names the pseudo-terminals of other devices.

    QEMU writes them on its standard output, before the guest runs; bpferry says the same in its own
    words.
    """

    def __init__(self, lines: int) -> None:
        self._left = lines
        self._held = b""

    def strip(self, data: bytes) -> bytes:
        """Return *data* without those lines; the start of one is held until the rest has come."""
        data, self._held = self._held + data, b""
        while self._left and data:
            line = OWN_LINE.match(data)
            if line is not None:
                data = data[line.end() :]
                self._left -= 1
            elif OWN_START.startswith(data[: len(OWN_START)]) and b"\n" not in data:
                self._held = data
                return b""
            else:
                self._left = 0
        return data
