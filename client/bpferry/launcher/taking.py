# SPDX-License-Identifier: LGPL-2.1-or-later
"""What becomes of a command line, for whatever program it is."""

import os
from collections.abc import Callable, Sequence

from bpferry.errors import QemuError
from bpferry.launcher.conversion import Conversion, Wishes, convert, find_left, has_taps
from bpferry.launcher.giving import Giver
from bpferry.qemu.cache import find_or_probe


def converted(
    argv: Sequence[str], path: str, giver: Giver, wishes: Wishes, note: Callable[[str], None]
) -> Conversion:
    """Return what becomes of *argv*, whose program is at *path*.

    A program that is no QEMU, or cannot be asked, gets its command line as it is; *note* is told.

    Raises:
        BpferryError: eBPF is required, and a card cannot have it.
    """
    if not has_taps(argv) and not wishes.require_ebpf:
        return Conversion(list(argv), [*find_left(argv)])
    try:
        capabilities = find_or_probe(os.path.abspath(path), note=note)  # noqa: PTH100 - links stay
    except QemuError as error:
        if wishes.require_ebpf:
            raise
        note(f"warning: {error.message}; its command line stays as it is")
        return Conversion(list(argv))
    return convert(argv, capabilities, giver, wishes)
