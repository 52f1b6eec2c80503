# SPDX-License-Identifier: LGPL-2.1-or-later
"""A packet arrives whole with its fds, or not at all; and the helper's side takes no fd in."""

import array
import errno
import fcntl
import os
import resource
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpferry_wire import channel, limits
from bpferry_wire.errors import BadMessage, PacketTruncated, PeerClosed
from bpferry_wire.fds import BorrowedFd
from tests.support.census import fd_targets
from tests.support.people import send_rights

Pair = tuple[socket.socket, socket.socket]

MOST_FDS = 253
"""SCM_MAX_FD of include/net/scm.h."""

FD_BYTES = channel.FD_BYTES
FDS_IN_THE_ROOM = (
    socket.CMSG_SPACE((limits.MAX_FDS_PER_REPLY + 1) * FD_BYTES) - socket.CMSG_LEN(0)
) // FD_BYTES
"""What the kernel delivers into the room for one fd too many, which CMSG_SPACE rounds up."""


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Yield two connected ends."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        for sock in (one, other):
            sock.settimeout(5)
        yield one, other


@pytest.fixture
def null() -> Iterator[BorrowedFd]:
    """Yield an fd to send."""
    fd = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    yield BorrowedFd(fd)
    os.close(fd)


def test_a_packet_arrives_with_its_fds_in_order(pair: Pair) -> None:
    """The fds are copies of those that were sent, in the same order."""
    one, other = pair
    with Path("/dev/null").open() as null, Path("/dev/zero").open() as zero:
        channel.send(one, b"x", [BorrowedFd(zero.fileno()), BorrowedFd(null.fileno())])
    packet = channel.receive(other)
    with packet.fds as fds:
        targets = [str(Path(f"/proc/self/fd/{fd.borrow()}").readlink()) for fd in fds]

    assert (packet.data, targets) == (b"x", ["/dev/zero", "/dev/null"])


def test_sending_leaves_the_sender_s_fds_open(pair: Pair, null: BorrowedFd) -> None:
    """The kernel duplicates; the caller keeps its own."""
    one, other = pair
    channel.send(one, b"x", [null])
    channel.receive(other).fds.close()

    assert os.path.lexists(f"/proc/self/fd/{null}")


def test_received_fds_are_closed_on_exec(pair: Pair, null: BorrowedFd) -> None:
    """Otherwise every program that the client starts would inherit them."""
    one, other = pair
    channel.send(one, b"x", [null])
    with channel.receive(other).fds as fds:
        flags = fcntl.fcntl(fds[0].borrow(), fcntl.F_GETFD)

    assert flags & fcntl.FD_CLOEXEC


def test_as_many_fds_arrive_as_are_allowed(pair: Pair, null: BorrowedFd) -> None:
    """The bound itself: every queue of the widest tap."""
    one, other = pair
    channel.send(one, b"x", [null] * limits.MAX_FDS_PER_REPLY)
    with channel.receive(other).fds as fds:
        assert len(fds) == limits.MAX_FDS_PER_REPLY


@pytest.mark.parametrize("beyond", [1, FDS_IN_THE_ROOM - limits.MAX_FDS_PER_REPLY])
def test_fds_beyond_the_bound_are_counted(pair: Pair, null: BorrowedFd, beyond: int) -> None:
    """What the kernel has room to deliver all the same is counted, and none of it stays open."""
    one, other = pair
    channel.send(one, b"x", [null] * (limits.MAX_FDS_PER_REPLY + beyond))

    with pytest.raises(PacketTruncated, match=f"more than {limits.MAX_FDS_PER_REPLY} fds"):
        channel.receive(other)


@pytest.mark.parametrize(
    "count", [FDS_IN_THE_ROOM + 1, 2 * FDS_IN_THE_ROOM, MOST_FDS - 1, MOST_FDS]
)
def test_a_list_of_fds_that_was_cut_leaves_none_open(
    pair: Pair, null: BorrowedFd, count: int
) -> None:
    """The kernel delivers the first ones and says MSG_CTRUNC; the autouse fixture counts."""
    one, other = pair
    channel.send(one, b"x", [null] * count)

    with pytest.raises(PacketTruncated, match="did not deliver all fds"):
        channel.receive(other)


def test_a_receiver_without_room_for_fds_gets_none(pair: Pair, null: BorrowedFd) -> None:
    """At RLIMIT_NOFILE the kernel installs what it can and cuts the rest; we close what came."""
    one, other = pair
    channel.send(one, b"x", [null] * 4)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Room for two: the lowest free numbers decide, so the gaps are filled first.
    fillers = filled_gaps()
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(fillers) + 3, limit[1]))
    try:
        with pytest.raises(PacketTruncated, match="too many open"):
            channel.receive(other)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        for fd in fillers:
            os.close(fd)


def filled_gaps() -> list[int]:
    """Open fds until the numbers are without gaps; return them."""
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    fillers = [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)]
    while fillers[-1] < highest:
        fillers.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
    return fillers


def test_a_packet_that_is_too_long_is_an_error(pair: Pair, null: BorrowedFd) -> None:
    """What is left of it is not used, and its fds are closed."""
    one, other = pair
    channel.send(one, b"x" * (limits.MAX_REPLY_BYTES + 1), [null])

    with pytest.raises(PacketTruncated, match="longer than 163840 bytes"):
        channel.receive(other)


def test_the_longest_packet_arrives(pair: Pair) -> None:
    """The bound itself is allowed."""
    one, other = pair
    channel.send(one, b"x" * limits.MAX_REPLY_BYTES)

    assert len(channel.receive(other).data) == limits.MAX_REPLY_BYTES


@pytest.mark.parametrize("receive", [channel.receive, channel.receive_bare])
def test_an_empty_packet_is_taken_for_the_end(pair: Pair, receive: object) -> None:
    """Nobody can tell the two apart on SOCK_SEQPACKET."""
    one, other = pair
    one.sendmsg([b""])

    with pytest.raises(PeerClosed):
        receive(other)  # type: ignore[operator]


def test_an_empty_packet_with_an_fd_leaves_none_open(pair: Pair, null: BorrowedFd) -> None:
    """The fd of a packet without bytes is closed too."""
    one, other = pair
    channel.send(one, b"", [null])

    with pytest.raises(PeerClosed):
        channel.receive(other)


def test_two_control_messages_are_one_list(pair: Pair, null: BorrowedFd) -> None:
    """All fds are owned, however they were sent."""
    one, other = pair
    send_rights(one, b"x", [null], count=2)
    with channel.receive(other).fds as fds:
        assert len(fds) == 2


def test_credentials_beside_fds_do_not_hide_them(pair: Pair, null: BorrowedFd) -> None:
    """A second kind of control message is passed over; the fds of the first are owned."""
    one, other = pair
    other.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    rights = array.array("i", [null])
    credentials = struct.pack("iII", os.getpid(), os.getuid(), os.getgid())
    one.sendmsg(
        [b"x"],
        [
            (socket.SOL_SOCKET, socket.SCM_RIGHTS, rights),
            (socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials),
        ],
    )
    with channel.receive(other).fds as fds:
        assert len(fds) == 1


def test_a_received_packet_is_gone(pair: Pair, null: BorrowedFd) -> None:
    """No MSG_PEEK: it would install every fd twice."""
    one, other = pair
    channel.send(one, b"x", [null])
    channel.receive(other).fds.close()
    other.setblocking(False)  # noqa: FBT003 - the function's own signature

    with pytest.raises(BlockingIOError):
        channel.receive(other)


def test_sending_to_nobody_is_an_error_and_no_signal(pair: Pair) -> None:
    """MSG_NOSIGNAL: SIGPIPE would end the helper."""
    one, other = pair
    other.close()

    with pytest.raises(BrokenPipeError):
        channel.send(one, b"x")


def test_a_full_socket_does_not_block(pair: Pair) -> None:
    """Who does not read gets BlockingIOError for us, not a helper that waits."""
    one, _ = pair
    one.setblocking(False)  # noqa: FBT003 - the function's own signature

    with pytest.raises(BlockingIOError):
        send_without_end(one)


def send_without_end(sock: socket.socket) -> None:
    """Send until the socket is full."""
    while True:
        channel.send(sock, b"x" * 1000)


def test_too_many_fds_at_once_are_refused_by_the_kernel(pair: Pair, null: BorrowedFd) -> None:
    """The bound of the kernel that ``limits`` names."""
    with pytest.raises(OSError, match="Invalid argument") as caught:
        channel.send(pair[0], b"x", [null] * (MOST_FDS + 1))

    assert caught.value.errno == errno.EINVAL


def test_a_request_without_fds_is_received_bare(pair: Pair) -> None:
    """The helper's way to receive gives the bytes."""
    one, other = pair
    channel.send(one, b"abc")

    assert channel.receive_bare(other) == b"abc"


@pytest.mark.parametrize("count", [1, MOST_FDS])
def test_a_request_with_fds_is_a_bad_message(pair: Pair, null: BorrowedFd, count: int) -> None:
    """The client is told that its fds were not taken."""
    one, other = pair
    channel.send(one, b"x", [null] * count)

    with pytest.raises(BadMessage, match="this protocol takes none"):
        channel.receive_bare(other)


def test_receiving_bare_never_takes_an_fd_in(pair: Pair, null: BorrowedFd) -> None:
    """A quarter of a million fds later this process has as many open as before."""
    one, other = pair
    before = fd_targets("self")
    for _ in range(1000):
        channel.send(one, b"x", [null] * MOST_FDS)
        with pytest.raises(BadMessage):
            channel.receive_bare(other)
        other.recv(1)

    assert before == fd_targets("self")


def test_a_request_that_is_too_long_is_a_bad_message(pair: Pair) -> None:
    """The kernel says that it cut the packet."""
    one, other = pair
    channel.send(one, b"x" * (limits.MAX_REQUEST_BYTES + 1))

    with pytest.raises(BadMessage, match="longer than 4096 bytes"):
        channel.receive_bare(other)


def test_the_longest_request_is_received(pair: Pair) -> None:
    """The bound itself is allowed."""
    one, other = pair
    channel.send(one, b"x" * limits.MAX_REQUEST_BYTES)

    assert len(channel.receive_bare(other)) == limits.MAX_REQUEST_BYTES
