# SPDX-License-Identifier: LGPL-2.1-or-later
"""Listen for a helper and start it when somebody connects, as systemd does for its units.

    python3 activator.py [--route] [--become] --group GID SOCKET COMMAND...

COMMAND gets the listening socket at the path SOCKET, to which members of the group may connect, as
sd_listen_fds(3) says. With --route it also gets a NETLINK_ROUTE socket of the network namespace
that this runs in, as from a unit with ``ListenNetlink=route 0``; systemd-socket-activate has no way
to pass one. COMMAND runs once at a time; after its end, the next client has it started again.

This ends with SIGTERM or when its standard input is closed, so however its parent ends, and takes
COMMAND with it. It also ends, with the same status, when COMMAND ends with one that is not 0: it
would do so again. With --become it does not start COMMAND but becomes it, process id and all, when
the first client connects.

It writes "Listening on SOCKET" to standard output when it does. COMMAND's own output goes to
standard error.
"""

import argparse
import fcntl
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NoReturn

FIRST_FD: Final = 3
"""SD_LISTEN_FDS_START in sd_listen_fds(3)."""

ASIDE: Final = 100
"""Above the numbers that the sockets get in the end."""

NOT_STARTED: Final = 127
"""The status of a command that could not be started, as in a shell."""

STDIN, STDOUT, STDERR = 0, 1, 2


@contextmanager
def listening(path: Path, group: int) -> Iterator[socket.socket]:
    """Give a socket that listens at *path*; remove that afterwards."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) as listener:
        os.umask(0o117)
        listener.bind(str(path))
        try:
            os.chown(path, 0, group)
            listener.listen(socket.SOMAXCONN)
            yield listener
        finally:
            path.unlink()


def open_route() -> socket.socket:
    """Return a socket as ``ListenNetlink=route 0`` makes it."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    opened.bind((0, 0))
    return opened


def wait_for(fd: int) -> bool:
    """Wait until *fd* is readable; False if standard input was closed before."""
    poll = select.poll()
    poll.register(STDIN, 0)
    poll.register(fd, select.POLLIN)
    return STDIN not in dict(poll.poll())


def start(command: Sequence[str], sockets: Sequence[socket.socket]) -> int:
    """Start *command* with *sockets* and return its process id."""
    pid = os.fork()
    if pid == 0:
        become(command, sockets)
    return pid


def become(command: Sequence[str], sockets: Sequence[socket.socket]) -> NoReturn:
    """Become *command* with *sockets*, or end with a status that says that it cannot be."""
    try:
        _execute(command, [sock.fileno() for sock in sockets])
    except OSError as error:
        os.write(STDERR, f"cannot start '{command[0]}': {error.strerror}\n".encode())
    finally:
        os._exit(NOT_STARTED)


def _execute(command: Sequence[str], fds: Sequence[int]) -> None:
    aside = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, ASIDE) for fd in fds]
    for number, fd in enumerate(aside, FIRST_FD):
        os.dup2(fd, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), STDIN)
    os.dup2(STDERR, STDOUT)
    os.umask(0o077)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    passed = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(fds))}
    os.execvpe(command[0], list(command), os.environ | passed)  # noqa: S606 - not a shell's words


def run_once(command: Sequence[str], sockets: Sequence[socket.socket]) -> int:
    """Run *command* to its end, or to ours; return its status, 0 if a signal ended it."""
    pid = start(command, sockets)
    try:
        pidfd = os.pidfd_open(pid)
        wait_for(pidfd)
        os.close(pidfd)
    finally:
        # It may have ended; then it is still there to be killed, and its status stays.
        os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return max(0, status)


def serve(command: Sequence[str], sockets: Sequence[socket.socket]) -> int:
    """Run *command* whenever somebody waits at the first of *sockets*; return the exit status."""
    while wait_for(sockets[0].fileno()):
        status = run_once(command, sockets)
        if status:
            return status
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="activator")
    parser.add_argument("--route", action="store_true")
    parser.add_argument("--become", action="store_true")
    parser.add_argument("--group", type=int, required=True)
    parser.add_argument("socket", type=Path)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    return parser.parse_args()


def main() -> int:
    """Listen, and start or become the command when somebody connects."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with listening(options.socket, options.group) as listener:
        sockets = [listener, open_route()] if options.route else [listener]
        os.write(STDOUT, f"Listening on {options.socket}\n".encode())
        if not options.become:
            return serve(options.command, sockets)
        if wait_for(listener.fileno()):
            become(options.command, sockets)
    return 0


if __name__ == "__main__":
    sys.exit(main())
