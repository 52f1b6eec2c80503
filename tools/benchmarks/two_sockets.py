# SPDX-License-Identifier: LGPL-2.1-or-later
"""Listen as systemd does for bpferry-tap, and become a command when somebody connects.

systemd-socket-activate knows no netlink sockets. This opens both in the network namespace that it
is started in, and hands them over as sd_listen_fds(3) describes; where the command goes from there
is its own affair. Python's own library alone, for Debian's Python run as ``python3 -I -S -B``.

    two_sockets.py SOCKET COMMAND [ARGUMENT...]
"""

import fcntl
import os
import select
import socket
import sys

FIRST_FD = 3
"""SD_LISTEN_FDS_START in sd_listen_fds(3)."""


def main() -> None:
    """Listen, wait, and become the command."""
    path, *command = sys.argv[1:]
    os.umask(0o177)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen()
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    netlink.bind((0, 0))
    print(f"Listening on {path}", file=sys.stderr, flush=True)
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.poll()
    _pass(listener, netlink)
    os.execvp(command[0], command)  # noqa: S606 - this is what it is for


def _pass(*socks: socket.socket) -> None:
    """Put *socks* to the numbers where the command looks for them."""
    # First out of each other's way. What is not put there ends with execve(2).
    copies = [fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, FIRST_FD + len(socks)) for sock in socks]
    for number, fd in enumerate(copies, FIRST_FD):
        os.dup2(fd, number)
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(socks))


if __name__ == "__main__":
    main()
