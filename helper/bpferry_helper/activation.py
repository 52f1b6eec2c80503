# SPDX-License-Identifier: LGPL-2.1-or-later
"""The sockets that systemd passes to us, and what we tell it: sd_listen_fds(3), sd_notify(3)."""

import os
import socket
import stat
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Final, NamedTuple

from bpferry_helper.errors import StartupError

FIRST_FD: Final = 3
"""SD_LISTEN_FDS_START in sd_listen_fds(3)."""

VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


class Listener(NamedTuple):
    """The listening socket, owned by the holder of this, and the group that may connect to it."""

    sock: socket.socket
    gid: int


def adopt_listener(environ: MutableMapping[str, str]) -> Listener:
    """Take over the one listening socket and clear the variables that named it.

    Raises:
        StartupError: no socket was passed, or more than one, or one of the wrong kind.
    """
    (sock,) = _take_sockets(environ, 1)
    return _listen(sock)


def adopt_listener_and_netlinks(
    environ: MutableMapping[str, str],
) -> tuple[Listener, socket.socket, socket.socket]:
    """Take over the listening socket and two netlink sockets in the host's network namespace.

    Raises:
        StartupError: something else than these three was passed.
    """
    socks = _take_sockets(environ, 3)
    netlinks = [sock for sock in socks if sock.family == socket.AF_NETLINK]
    if [sock.proto for sock in netlinks] != [socket.NETLINK_ROUTE] * 2:
        raise StartupError(
            "systemd did not pass two NETLINK_ROUTE sockets: the unit must say "
            "ListenNetlink=route 0 twice"
        )
    (listener,) = (sock for sock in socks if sock.family != socket.AF_NETLINK)
    return _listen(listener), netlinks[0], netlinks[1]


def _take_sockets(environ: MutableMapping[str, str], count: int) -> list[socket.socket]:
    _check_count(environ, count)
    for name in VARIABLES:
        environ.pop(name, None)
    return [_take_socket(fd) for fd in range(FIRST_FD, FIRST_FD + count)]


def _take_socket(fd: int) -> socket.socket:
    try:
        os.set_inheritable(fd, False)  # noqa: FBT003 - the function's own signature
        is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError as error:
        raise StartupError(f"cannot use the fd from systemd: {error.strerror}") from error
    if not is_socket:
        raise StartupError("the file descriptor from systemd is not a socket")
    return socket.socket(fileno=fd)


def _listen(sock: socket.socket) -> Listener:
    _check_kind(sock)
    sock.setblocking(False)  # noqa: FBT003 - the function's own signature
    return Listener(sock, _socket_group(sock))


def _check_count(environ: MutableMapping[str, str], count: int) -> None:
    if environ.get("LISTEN_PID") != str(os.getpid()):
        raise StartupError(
            "no socket was passed in: this program is started by systemd when somebody connects "
            "to its socket, not by hand"
        )
    if environ.get("LISTEN_FDS") != str(count):
        wanted = "exactly one socket is" if count == 1 else f"exactly {count} sockets are"
        raise StartupError(f"{wanted} needed, and systemd passed {environ.get('LISTEN_FDS')}")


def _check_kind(sock: socket.socket) -> None:
    listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if (sock.family, sock.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET) or not listening:
        raise StartupError(
            "the socket from systemd is not a listening AF_UNIX SOCK_SEQPACKET socket: the unit "
            "must say ListenSequentialPacket= and Accept=no"
        )


def _socket_group(sock: socket.socket) -> int:
    """Return the group of the socket's file; refuse a socket that anybody may connect to.

    CVE-2020-15708 and CVE-2019-10132 were sockets that packaging left world-writable.
    """
    path = sock.getsockname()
    if not isinstance(path, str) or not path.startswith("/"):
        raise StartupError("the socket from systemd has no path in the file system")
    try:
        info = os.stat(path)
    except OSError as error:
        raise StartupError(f"cannot look at the socket '{path}': {error.strerror}") from error
    if info.st_mode & stat.S_IWOTH:
        raise StartupError(f"'{path}' is open to everybody: set SocketMode=0660 in the socket unit")
    return info.st_gid


class Notifier:
    """Tells systemd that we are ready and alive. Does nothing without NOTIFY_SOCKET."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Read NOTIFY_SOCKET and WATCHDOG_USEC, and remove them from *environ*."""
        self._path = environ.pop("NOTIFY_SOCKET", "")
        usec = environ.pop("WATCHDOG_USEC", "0")
        pid = environ.pop("WATCHDOG_PID", str(os.getpid()))
        meant = usec.isdigit() and pid == str(os.getpid())
        self.watchdog_s = int(usec) / 1_000_000 if meant else 0.0
        """Seconds of silence after which systemd kills us; 0 without a watchdog."""

    def tell(self, message: str) -> None:
        """Send *message*, such as READY=1. It is not an error if nobody listens."""
        if not self._path:
            return
        address = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        # Even socket() may fail, if we are out of fds: that must not end the helper.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(message.encode(), socket.MSG_DONTWAIT, address)
