# SPDX-License-Identifier: LGPL-2.1-or-later
"""Take more than a limit allows, and print how far that went; runs as a service in the host.

greedy.py threads NUMBER       start threads, until there are NUMBER or the kernel refuses one
greedy.py memory MIB           write to so much memory, and print what the control group had of it
greedy.py processor            keep a processor busy until somebody ends it
"""

import sys
import threading
from pathlib import Path

MIB = 1 << 20


def threads(wanted: int) -> int:
    """Return how many threads this process had at last."""
    end = threading.Event()
    started: list[threading.Thread] = []
    try:
        while len(started) + 1 < wanted:
            thread = threading.Thread(target=end.wait)
            thread.start()
            started.append(thread)
    except RuntimeError:
        # Python's word for EAGAIN of clone(2).
        pass
    end.set()
    for thread in started:
        thread.join()
    return len(started) + 1


def memory(mib: int) -> int:
    """Hold *mib*, and return how often the control group was over MemoryHigh=."""
    held = bytearray(mib * MIB)
    for page in range(0, len(held), 4096):
        held[page] = 1
    group = Path("/proc/self/cgroup").read_text().strip().removeprefix("0::")
    events = Path(f"/sys/fs/cgroup{group}/memory.events").read_text().split()
    return int(events[events.index("high") + 1])


def processor() -> None:
    """Do nothing, as fast as it goes."""
    while True:
        pass


if __name__ == "__main__":
    if sys.argv[1] == "processor":
        processor()
    print({"threads": threads, "memory": memory}[sys.argv[1]](int(sys.argv[2])))  # noqa: T201
