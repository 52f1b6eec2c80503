# SPDX-License-Identifier: LGPL-2.1-or-later
"""fds that a client pushes are never taken in."""

import array
import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterator

import pytest

from bpferry_wire.errors import Code
from bpferry_wire.messages import Hello, HelloReply
from tests.support.census import fd_targets
from tests.support.helper_process import HelperProcess
from tests.support.packets import HELLO
from tests.support.people import ALICE, Ended, connect, send_raw, send_rights, take

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.kernel,
    pytest.mark.usefixtures("unharmed"),
]

BAD = Ended(Code.BAD_REQUEST, closed=True)
MOST_FDS = 253
SYS_IO_URING_SETUP = 425
"""asm-generic/unistd.h; the same number on every architecture."""


@pytest.fixture
def null() -> Iterator[int]:
    """Yield an fd to push."""
    fd = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    "packet", [HELLO, b"", b"\xc1", bytes(5000)], ids=["good", "empty", "bad", "long"]
)
@pytest.mark.parametrize("count", [1, 16, MOST_FDS])
def test_pushed_fds_end_the_connection(
    helper: HelperProcess, null: int, packet: bytes, count: int
) -> None:
    """Whatever the packet says beside them."""
    assert send_raw(helper.path, packet, [null] * count) == BAD


def test_more_than_the_kernel_passes_harm_nobody(helper: HelperProcess, null: int) -> None:
    """254 are refused on the client's side."""
    with connect(helper.path) as sock:
        with pytest.raises(OSError, match="Invalid argument") as caught:
            send_rights(sock, HELLO, [null] * (MOST_FDS + 1))
        sock.send(HELLO)
        reply = take(sock, Hello()).reply

    assert (caught.value.errno, isinstance(reply, HelloReply)) == (errno.EINVAL, True)


def test_a_quarter_of_a_million_pushed_fds_leave_none(helper: HelperProcess, null: int) -> None:
    """A thousand times as many as one message holds; ``unharmed`` compares the helper's fds."""
    for _ in range(1000):
        with connect(helper.path) as sock:
            send_rights(sock, b"\x80", [null] * MOST_FDS)
            sock.recv(4096)

    assert "/dev/null" not in fd_targets(helper.pid) or fd_targets(helper.pid)["/dev/null"] == 1


def test_two_control_messages_end_the_connection(helper: HelperProcess, null: int) -> None:
    """As one does."""
    assert send_raw(helper.path, HELLO, [null], count=2) == BAD


def test_a_connection_s_own_end_may_be_pushed(helper: HelperProcess) -> None:
    """It does not keep itself alive: the helper hangs up, and the kernel collects it."""
    with connect(helper.path) as sock:
        send_rights(sock, HELLO, [sock.fileno()])
        with connect(helper.path) as other:
            send_rights(other, HELLO, [sock.fileno(), other.fileno()])


def test_a_path_without_access_may_be_pushed(helper: HelperProcess) -> None:
    """An O_PATH fd is an fd."""
    fd = os.open("/etc/shadow", os.O_PATH | os.O_CLOEXEC)
    try:
        assert send_raw(helper.path, HELLO, [fd]) == BAD
    finally:
        os.close(fd)


def test_an_io_uring_may_be_pushed(helper: HelperProcess) -> None:
    """Newer kernels refuse to pass one, older ones leave it to us, some have none."""
    libc = ctypes.CDLL(None, use_errno=True)
    ring = libc.syscall(SYS_IO_URING_SETUP, 1, ctypes.create_string_buffer(120))
    outcome: object = ctypes.get_errno()
    if ring >= 0:
        try:
            outcome = send_raw(helper.path, HELLO, [ring])
        except OSError as error:
            outcome = error.errno
        finally:
            os.close(ring)

    assert outcome in (BAD, errno.EINVAL, errno.ENOSYS, errno.EPERM)


def credentials() -> tuple[int, int, bytes]:
    """Return a control message that says truly who we are."""
    payload = struct.pack("iII", os.getpid(), os.getuid(), os.getgid())
    return (socket.SOL_SOCKET, socket.SCM_CREDENTIALS, payload)


def test_credentials_beside_a_request_change_nothing(helper: HelperProcess) -> None:
    """The helper asks the kernel who connected, and takes no word in a message."""
    with connect(helper.path) as sock:
        sock.sendmsg([HELLO], [credentials()])
        reply = take(sock, Hello()).reply

    assert isinstance(reply, HelloReply)
    assert reply.caller.uid == ALICE.uid


def test_credentials_beside_fds_end_the_connection(helper: HelperProcess, null: int) -> None:
    """The fds do."""
    with connect(helper.path) as sock:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null]).tobytes())
        sock.sendmsg([HELLO], [credentials(), rights])

        assert sock.recv(4096)
        assert sock.recv(4096) == b""
