# SPDX-License-Identifier: LGPL-2.1-or-later
"""Time qemu-bridge-helper: from starting it, as QEMU does, until its one queue is there.

For each line on standard input it starts one and prints the nanoseconds. This program runs in the
namespace with the bridge, so that only the helper's own work is measured. It uses only Python's own
library, for ``python3 -I -S -B``. posix_spawn(3) favours the helper: QEMU is larger than this
process, and forks.
"""

import os
import socket
import sys
import time

HELPER = "/usr/lib/qemu/qemu-bridge-helper"


def main() -> None:
    """Answer each line with a time."""
    bridge = sys.argv[1]
    for _ in sys.stdin:
        print(spawn_ns(bridge), flush=True)


def spawn_ns(bridge: str) -> int:
    """Get a tap on *bridge* and release it; return how long getting it took."""
    ours, theirs = socket.socketpair()
    theirs.set_inheritable(True)
    argv = [HELPER, "--use-vnet", f"--br={bridge}", f"--fd={theirs.fileno()}"]
    start = time.perf_counter_ns()
    pid = os.posix_spawn(HELPER, argv, os.environ)
    theirs.close()
    _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    end = time.perf_counter_ns()
    ours.close()
    for fd in fds:
        os.close(fd)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status or len(fds) != 1:
        sys.exit(f"'{' '.join(argv)}' ended with status {status} and {len(fds)} fds")
    return end - start


if __name__ == "__main__":
    main()
