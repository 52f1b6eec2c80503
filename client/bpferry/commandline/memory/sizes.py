# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sizes of memory, which are rounded up as in libvirt."""

from typing import Final

MIB: Final = 2**20
"""Bytes; the size of main memory and of a node is a multiple of this."""

MODULE: Final = 2 * MIB
"""Bytes; the size of a module is a multiple of this."""


def round_up(size: int, step: int) -> int:
    """Return the smallest multiple of *step* that is at least *size*."""
    return -(-size // step) * step
