# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether the memory of a process grows.

The resident memory of a Python process goes up and down by some pages, and up at first, until
everything was done once. So the first quarter of the samples is left out, and the slope is the
median of the slopes between all pairs of what remains (Theil and Sen): single steps and outliers
do not move it, a steady growth does, however small its steps are.
"""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Final

MOST_SAMPLES: Final = 400
"""Evenly spaced, of all: these are 80,000 pairs."""


def resident_kib(pid: int) -> int:
    """Return the resident memory of *pid*."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def slope_of(samples: Sequence[int]) -> float:
    """Return by how much *samples* grow from one to the next, without their first quarter."""
    settled = list(enumerate(samples))[len(samples) // 4 :]
    some = settled[:: max(1, len(settled) // MOST_SAMPLES)]
    return median((y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(some, 2))
