# SPDX-License-Identifier: LGPL-2.1-or-later
"""The last of what the guest wrote, for those who come later."""

import re
from typing import Final

MAX_BYTES: Final = 128 * 1024
"""Some 1,600 full lines: more than a guest writes while it boots."""

ASKING: Final = re.compile(
    rb"\x05"
    rb"|\x1bZ"
    rb"|\x1b\[[0-9;?>=]*(?:[cnqt]|\$p)"
    rb"|\x1bP[^\x1b]{0,64}\x1b\\"
    rb"|\x1b\][0-9;]{1,16}\?(?:\x07|\x1b\\)"
)
"""What a terminal answers, such as where its cursor is (ECMA-48, and xterm's ctlseqs).

The answer would be typed at the guest, which does not wait for it any more.
"""


class History:
    """The end of a stream of bytes."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._is_whole = True

    def add(self, data: bytes) -> None:
        """Remember *data*, and forget what is too old for that."""
        self._data += data
        excess = len(self._data) - MAX_BYTES
        if excess > 0:
            del self._data[:excess]
            self._is_whole = False

    def shown(self) -> bytes:
        """Return what a terminal can be given later: whole lines, without questions to it."""
        start = 0 if self._is_whole else self._data.find(b"\n") + 1
        return ASKING.sub(b"", self._data[start:])
