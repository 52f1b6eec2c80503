# SPDX-License-Identifier: LGPL-2.1-or-later
"""Listen for a helper and start it when somebody connects, as systemd does for its units.

    python3 activator.py [--route] [--become] --group GID SOCKET COMMAND...

COMMAND gets the listening socket at the path SOCKET, to which members of the group may connect, as
described in sd_listen_fds(3). With --route it also gets two NETLINK_ROUTE sockets in the network
namespace in which this runs, as from a unit with ``ListenNetlink=route 0`` twice;
systemd-socket-activate cannot pass them. Only one COMMAND runs at a time; after it exits, the next
client starts it again.

This exits on SIGTERM, or when its standard input is closed, which happens however its parent ends;
it then kills COMMAND. If COMMAND exits with a status other than 0, this exits with the same status:
COMMAND would fail again. With --become it does not start COMMAND when the first client connects,
but becomes it, with the same process id.

It prints "Listening on SOCKET" to standard output once it listens. COMMAND's own output goes to
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
"""Above the fd numbers that the sockets finally get."""

NOT_STARTED: Final = 127
"""The status of a command that could not be started, as in a shell."""

STDIN, STDOUT, STDERR = 0, 1, 2


@contextmanager
def listening(path: Path, group: int) -> Iterator[socket.socket]:
    """Yield a socket that listens at *path*; remove the path afterwards."""
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
    """Return a socket such as ``ListenNetlink=route 0`` makes."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    opened.bind((0, 0))
    return opened


def wait_for(fd: int) -> bool:
    """Wait until *fd* is readable; return False if standard input was closed before that."""
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
    """Become *command* with *sockets*, or exit with NOT_STARTED."""
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
    """Run *command* until it ends or we do; return its status, 0 if a signal ended it."""
    pid = start(command, sockets)
    try:
        pidfd = os.pidfd_open(pid)
        wait_for(pidfd)
        os.close(pidfd)
    finally:
        # If it has ended, it is still a zombie: killing it is harmless, and its status stays.
        os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return max(0, status)


def serve(command: Sequence[str], sockets: Sequence[socket.socket]) -> int:
    """Run *command* whenever a client waits at the first of *sockets*; return the exit status."""
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
        sockets = [listener, *(open_route() for _ in range(2 * options.route))]
        os.write(STDOUT, f"Listening on {options.socket}\n".encode())
        if not options.become:
            return serve(options.command, sockets)
        if wait_for(listener.fileno()):
            become(options.command, sockets)
    return 0


if __name__ == "__main__":
    sys.exit(main())
