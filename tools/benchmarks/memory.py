# SPDX-License-Identifier: LGPL-2.1-or-later
"""How much memory a process has."""

import re
from pathlib import Path

from benchmarks.command import BenchError
from benchmarks.figures import Memory

KEYS = ("VmRSS", "VmHWM")
"""Lines of /proc/PID/status: resident now, and the peak."""


def memory_of(pid: int) -> Memory:
    """Return the memory of the process *pid*.

    Raises:
        BenchError: the process has ended.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError as error:
        raise BenchError("the helper ended while it was measured") from error
    now, peak = (re.search(rf"^{key}:\s+(\d+) kB$", status, re.MULTILINE) for key in KEYS)
    if now is None or peak is None:
        raise BenchError(f"'/proc/{pid}/status' does not say how much memory the helper has")
    return Memory(int(now[1]), int(peak[1]))
