# SPDX-License-Identifier: LGPL-2.1-or-later
"""One packet with its fds over a connected SOCK_SEQPACKET socket.

SOCK_SEQPACKET keeps packets whole and keeps each packet's fds with it; on a stream, a plain read
may silently drop fds. socket.recv_fds() and send_fds() are not used: they ignore their flags, so
received fds would be inheritable (python/cpython#107898).

There are two ways to receive. ``receive``, for the client, accepts fds. ``receive_bare``, for the
helper, never does: it looks at the packet first, without room for ancillary data, and the kernel
says with MSG_CTRUNC that there is some (net/core/scm.c, scm_detach_fds). A packet with fds is left
where it is: whoever took it could have to wait until the kernel has closed them.
"""

import array
import socket
from collections.abc import Sequence

from bpferry_wire import limits
from bpferry_wire.errors import BadMessage, PacketTruncated, PeerClosed
from bpferry_wire.fds import BorrowedFd, OwnedFds
from bpferry_wire.frozen import Frozen

FD_BYTES = array.array("i").itemsize

MSG_TRUNC, MSG_CTRUNC, MSG_PEEK = map(int, (socket.MSG_TRUNC, socket.MSG_CTRUNC, socket.MSG_PEEK))
"""As plain numbers: with Python's own, each test takes longer than the system call before it."""


class Packet(Frozen):
    """One received packet. The holder of it owns its fds."""

    data: bytes
    fds: OwnedFds


def send(sock: socket.socket, data: bytes, fds: Sequence[BorrowedFd] = ()) -> None:
    """Send one packet; the kernel duplicates the fds, the caller keeps its own.

    Raises:
        BlockingIOError: a non-blocking socket has no room.
        OSError: ETOOMANYREFS if too many fds are in flight already, EPIPE if nobody reads.
    """
    ancillary = []
    if fds:
        rights = array.array("i", fds)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
    socket.socket.sendmsg(sock, [data], ancillary, socket.MSG_NOSIGNAL)


def receive(sock: socket.socket) -> Packet:
    """Receive one packet and own its fds.

    Raises:
        PeerClosed: the other side closed the connection.
        PacketTruncated: the packet or its fds were truncated; fds that came have been closed.
    """
    # Room for one fd more than allowed: CMSG_SPACE rounds up, and an exact buffer would let the
    # kernel install an fd that the count does not show.
    room = socket.CMSG_SPACE((limits.MAX_FDS_PER_REPLY + 1) * FD_BYTES)
    data, ancillary, flags, _ = sock.recvmsg(limits.MAX_REPLY_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    fds = _own(ancillary)
    try:
        _check_whole(data, len(fds), flags)
    except BaseException:
        fds.close()
        raise
    return Packet(data, fds)


def _own(ancillary: list[tuple[int, int, bytes]]) -> OwnedFds:
    """Take ownership of every fd in *ancillary*, before anything is checked."""
    fds = OwnedFds()
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            rights = array.array("i")
            rights.frombytes(payload[: len(payload) - len(payload) % FD_BYTES])
            for fd in rights:
                fds.add(fd)
    return fds


def _check_whole(data: bytes, fd_count: int, flags: int) -> None:
    if flags & MSG_TRUNC:
        raise PacketTruncated(f"the packet is longer than {limits.MAX_REPLY_BYTES} bytes")
    if flags & MSG_CTRUNC:
        raise PacketTruncated(
            "the kernel did not deliver all fds of the packet: this process has too many open, "
            "or a security module denies one"
        )
    if fd_count > limits.MAX_FDS_PER_REPLY:
        raise PacketTruncated(f"more than {limits.MAX_FDS_PER_REPLY} fds in one packet")
    if not data:
        raise PeerClosed("the other side closed the connection")


def receive_bare(sock: socket.socket) -> bytes:
    """Receive one request without accepting any fd. A packet that has some stays in the queue.

    Raises:
        PeerClosed: end of file. An empty packet looks the same and is treated the same.
        BadMessage: the packet is longer than a request may be, or fds came with it.
        BlockingIOError: nothing has arrived on a non-blocking socket.
    """
    data, _, flags, _ = sock.recvmsg(limits.MAX_REQUEST_BYTES, 0, MSG_PEEK)
    if flags & MSG_CTRUNC:
        raise BadMessage("file descriptors came with the request, and this protocol takes none")
    sock.recv(1)
    if flags & MSG_TRUNC:
        raise BadMessage(f"the request is longer than {limits.MAX_REQUEST_BYTES} bytes")
    if not data:
        raise PeerClosed("the client closed the connection")
    return data
