# SPDX-License-Identifier: LGPL-2.1-or-later
"""How much freed memory the C library keeps, instead of giving it back to the kernel.

By default it would keep 1 MB more here. Each thread gets a heap of its own; and once a large block
has been freed, others up to that size are put on a heap too, where they leave gaps. The helper's
large blocks are the kernel's BTF, of 5 MB, for the census, and the verifier's log of each load.
"""

import ctypes
from typing import Final

M_MMAP_THRESHOLD: Final = -3
M_ARENA_MAX: Final = -8
"""Options of mallopt(3), from malloc.h."""

LARGE_BYTES: Final = 131_072
"""Blocks from this size on go back to the kernel when they are freed. It is the C library's own
value at first; set explicitly, it does not grow."""


def keep_little() -> None:
    """Give large blocks back, and let all threads share one heap. Call it before any thread."""
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
    libc.mallopt(M_ARENA_MAX, 1)
