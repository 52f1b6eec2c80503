# SPDX-License-Identifier: LGPL-2.1-or-later
"""fds that a client pushes hold up nobody, however long the kernel takes to close them.

Whoever throws a packet away closes what is in it, if the client has closed its own. For a TCP
socket with SO_LINGER, that takes as long as the client likes. The helper's kernel is like one
before 6.16 here: newer ones refuse fds on the client's side.
"""

import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from bpferry_helper.disposal import MAX_LOOKED_AT
from bpferry_helper.door import MAX_PER_UID
from bpferry_wire.messages import Hello, HelloReply
from tests import requires
from tests.support.census import fd_targets
from tests.support.helper_process import HelperProcess
from tests.support.packets import HELLO
from tests.support.people import ALICE, BOB, ask_once, connect, is_closed, send_rights

pytestmark = [pytest.mark.privileged, pytest.mark.kernel]

LINGER_S = 3
SOON_S = 1.0
"""On a busy host. It takes a millisecond."""

MANY = 40

EMPTY = b""


@pytest.fixture
def lingering() -> Iterator[Callable[[], int]]:
    """Yield a function that returns a TCP socket whose last close takes LINGER_S."""
    with ExitStack() as stack:
        yield lambda: _lingering(stack)


def _lingering(stack: ExitStack) -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        other = stack.enter_context(listener.accept()[0])
    client.setblocking(False)  # noqa: FBT003 - the function's own signature
    with suppress(BlockingIOError):
        while True:
            client.send(bytes(1 << 20))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, LINGER_S))
    # Nobody reads what was sent, until the end.
    stack.callback(other.shutdown, socket.SHUT_RDWR)
    return client.detach()


def push(sock: socket.socket, fd: int, data: bytes = HELLO) -> None:
    """Send *fd*, which only the packet has then."""
    send_rights(sock, data, [fd])
    os.close(fd)


def in_a_request(helper: HelperProcess, fd: int) -> None:
    """As the first packet."""
    with ExitStack() as stack:
        with helper.stopped():
            sock = stack.enter_context(connect(helper.path))
            push(sock, fd)
        assert is_closed(sock, SOON_S)


def in_a_request_of_nobody(helper: HelperProcess, fd: int) -> None:
    """And hang up at once."""
    with helper.stopped(), connect(helper.path) as sock:
        push(sock, fd)


def behind_packets(helper: HelperProcess, fd: int) -> None:
    """In a packet that the helper has not read when the client hangs up."""
    with helper.stopped(), connect(helper.path) as sock:
        for packet in (EMPTY, HELLO, EMPTY):
            sock.send(packet)
        push(sock, fd, EMPTY)


def behind_many_packets(helper: HelperProcess, fd: int) -> None:
    """More than the loop throws away itself."""
    with helper.stopped(), connect(helper.path) as sock:
        for _ in range(2 * MAX_LOOKED_AT):
            sock.send(HELLO)
        push(sock, fd)


def turned_away(helper: HelperProcess, fd: int) -> None:
    """On one connection more than Alice may have."""
    with helper.stopped(), ExitStack() as stack:
        for _ in range(MAX_PER_UID):
            stack.enter_context(connect(helper.path))
        push(stack.enter_context(connect(helper.path)), fd)


WAYS = [
    in_a_request,
    in_a_request_of_nobody,
    behind_packets,
    behind_many_packets,
    turned_away,
]


@pytest.mark.parametrize("way", WAYS)
def test_what_a_client_pushed_holds_up_nobody(
    helper: HelperProcess, lingering: Callable[[], int], way: Callable[[HelperProcess, int], None]
) -> None:
    """Another user is served at once, and soon nothing of it is left."""
    before = helper.settle()
    way(helper, lingering())
    started = time.monotonic()
    check_serves_soon(helper)
    helper.wait_for_quiet()

    assert time.monotonic() - started < LINGER_S
    assert before == fd_targets(helper.pid)


def check_serves_soon(helper: HelperProcess) -> None:
    """Fail unless another user is served at once."""
    started = time.monotonic()
    reply = ask_once(helper.path, Hello(), BOB).reply

    assert isinstance(reply, HelloReply)
    assert time.monotonic() - started < SOON_S


def test_many_of_them_do_not_either(helper: HelperProcess, lingering: Callable[[], int]) -> None:
    """Each costs the helper's thread a moment, and not its own time."""
    fds = [lingering() for _ in range(MANY)]
    with helper.stopped():
        for fd in fds:
            with connect(helper.path) as sock:
                push(sock, fd)
    started = time.monotonic()
    check_serves_soon(helper)
    helper.wait_for_quiet()

    assert time.monotonic() - started < LINGER_S


def test_whoever_takes_the_packet_waits(lingering: Callable[[], int]) -> None:
    """The control: to offer no room for fds is not enough."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        push(one, lingering())
        started = time.monotonic()
        flags = other.recvmsg(4096)[2]

    assert flags & socket.MSG_CTRUNC
    assert time.monotonic() - started > LINGER_S * 0.9


@pytest.mark.parametrize("refuses", [True, False])
def test_a_newer_kernel_refuses_them_for_us(helper: HelperProcess, *, refuses: bool) -> None:
    """The helper asks it to. The control: one that was not asked lets them pass."""
    requires.refused_fds()
    if refuses:
        helper.kill()
        helper.start(wait=False)
        helper.wait_for("READY=1")
    passed = True
    with connect(helper.path, ALICE) as sock:
        try:
            send_rights(sock, HELLO, [sock.fileno()])
        except PermissionError:
            passed = False
    helper.let_fds_pass()

    assert passed is not refuses
