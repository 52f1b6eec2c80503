# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ask the kernel with another process's netlink socket, and leave the answers there unread.

    leave_answers.py PID

A helper that is killed in the middle of a request leaves its netlink socket like this: systemd
holds the socket too, and passes it to the next one. Runs inside the booted system, as root.
"""

import ctypes
import os
import platform
import socket
import struct
import sys
from pathlib import Path
from typing import Final

PIDFD_GETFD: Final = {"x86_64": 438, "aarch64": 438}[platform.machine()]
"""asm-generic/unistd.h"""

SD_LISTEN_FDS_START: Final = 3
"""The first socket that systemd passes, sd_listen_fds(3); the other one is the next."""

QUESTION: Final = struct.pack("=IHHII BBHiII", 32, 18, 0x305, 7, 0, 0, 0, 0, 0, 0, 0)
"""struct nlmsghdr, RTM_GETLINK with NLM_F_REQUEST, _ACK and _DUMP; struct ifinfomsg."""


def take_socket(pid: int) -> socket.socket:
    """Return the netlink socket that systemd passed to *pid*."""
    pidfd = os.pidfd_open(pid)
    for number in range(SD_LISTEN_FDS_START, SD_LISTEN_FDS_START + 2):
        fd = ctypes.CDLL(None, use_errno=True).syscall(PIDFD_GETFD, pidfd, number, 0)
        if fd < 0:
            raise OSError(ctypes.get_errno(), f"cannot take fd {number} of process {pid}")
        taken = socket.socket(fileno=fd)
        if taken.family == socket.AF_NETLINK:
            return taken
    raise LookupError(sorted(Path(f"/proc/{pid}/fd").iterdir()))


if __name__ == "__main__":
    take_socket(int(sys.argv[1])).send(QUESTION)
