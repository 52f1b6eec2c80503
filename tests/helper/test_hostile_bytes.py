# SPDX-License-Identifier: LGPL-2.1-or-later
"""Packets that are not requests, sent to the real helper, which answers the next client."""

import errno
import os
import random
import socket

import pytest

from bpferry_wire import limits
from bpferry_wire.errors import Code
from bpferry_wire.messages import (
    Can,
    Create,
    Delete,
    Hello,
    HelloReply,
    ListTaps,
    Load,
    Request,
    Tap,
)
from bpferry_wire.packets import encode_request
from tests.support import packets
from tests.support.children import fork
from tests.support.helper_process import HelperProcess
from tests.support.packets import HELLO
from tests.support.people import (
    ALICE,
    Ended,
    acting_as,
    ask,
    code_of_next,
    connect,
    is_closed,
    send_raw,
    take,
)

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.kernel,
    pytest.mark.usefixtures("unharmed"),
]

BAD = Ended(Code.BAD_REQUEST, closed=True)


@pytest.mark.parametrize("packet", packets.BAD.values(), ids=packets.BAD)
def test_a_bad_packet_ends_the_connection(helper: HelperProcess, packet: bytes) -> None:
    """With its code, and the connection is closed."""
    assert send_raw(helper.path, packet) == BAD


@pytest.mark.parametrize("packet", packets.FOREIGN_VERSIONS.values(), ids=packets.FOREIGN_VERSIONS)
def test_another_version_ends_the_connection(helper: HelperProcess, packet: bytes) -> None:
    """With its own code."""
    assert send_raw(helper.path, packet) == Ended(Code.UNSUPPORTED_VERSION, closed=True)


@pytest.mark.parametrize("packet", packets.UNKNOWN_OPS.values(), ids=packets.UNKNOWN_OPS)
def test_an_unknown_operation_ends_the_connection(helper: HelperProcess, packet: bytes) -> None:
    """With its own code."""
    assert send_raw(helper.path, packet) == Ended(Code.UNKNOWN_OP, closed=True)


TAP = Tap("br0", is_network=False, queues=1)
OF_THE_OTHER_HELPER: dict[str, Request] = {
    "tap": TAP,
    "create": Create(TAP),
    "list": ListTaps(),
    "delete": Delete("bfp00000000"),
    "can, about a tap": Can(TAP),
    "can, about a tap that stays": Can(Create(TAP)),
}


@pytest.mark.parametrize("request_", OF_THE_OTHER_HELPER.values(), ids=OF_THE_OTHER_HELPER)
def test_what_the_other_helper_does_ends_the_connection(
    helper: HelperProcess, request_: Request
) -> None:
    """With the code of an unknown operation."""
    expected = Ended(Code.UNKNOWN_OP, closed=True)

    assert expected == send_raw(helper.path, encode_request(request_))


def test_nothing_that_was_sent_forges_a_line_of_the_log(helper: HelperProcess) -> None:
    """A newline in the operation's name is written as two characters."""
    send_raw(helper.path, packets.UNKNOWN_OPS["a newline"])

    assert not [line for line in helper.log().splitlines() if line.startswith("<0>")]


@pytest.mark.parametrize(
    "length", [limits.MAX_REQUEST_BYTES, limits.MAX_REQUEST_BYTES + 1, 65_536, 200_000]
)
def test_a_long_packet_is_a_bad_request(helper: HelperProcess, length: int) -> None:
    """Up to the bound for its unknown key, above it for its length."""
    packet = HELLO + bytes(length - len(HELLO))

    assert send_raw(helper.path, packet) == BAD


def test_the_longest_packet_that_a_socket_takes_is_a_bad_request(helper: HelperProcess) -> None:
    """Just below net.core.wmem_default."""
    with connect(helper.path) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 400_000)
        sock.send(bytes(212_960))

        assert code_of_next(sock) == Code.BAD_REQUEST


def test_a_packet_that_no_socket_takes_harms_nobody(helper: HelperProcess) -> None:
    """The kernel refuses it on the client's side."""
    with connect(helper.path) as sock, pytest.raises(OSError, match="too long") as caught:
        sock.send(bytes(500_000))

    assert caught.value.errno == errno.EMSGSIZE


def test_an_empty_packet_is_the_end(helper: HelperProcess) -> None:
    """It looks like the end of file, and is treated as such."""
    assert send_raw(helper.path, b"") == Ended(None, closed=True)


def test_half_a_request_and_a_hang_up_harm_nobody(helper: HelperProcess) -> None:
    """The helper's answer finds nobody."""
    with connect(helper.path) as sock:
        sock.send(HELLO[:3])


def test_shutting_down_first_is_the_end(helper: HelperProcess) -> None:
    """Who will not send anything is hung up on."""
    with connect(helper.path) as sock:
        sock.shutdown(socket.SHUT_WR)

        assert is_closed(sock)


def test_shutting_down_after_a_request_still_gets_the_answer(helper: HelperProcess) -> None:
    """The request was whole."""
    with connect(helper.path) as sock:
        sock.send(HELLO)
        sock.shutdown(socket.SHUT_WR)

        assert isinstance(take(sock, Hello()).reply, HelloReply)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_another_kind_of_socket_cannot_connect(
    helper: HelperProcess, kind: socket.SocketKind
) -> None:
    """The kernel refuses it."""
    with socket.socket(socket.AF_UNIX, kind) as sock, acting_as(ALICE):
        error = sock.connect_ex(str(helper.path))

    assert error == errno.EPROTOTYPE


def test_thousands_of_random_packets_harm_nobody(helper: HelperProcess) -> None:
    """Random bytes, and requests with random changes; each is answered or hung up on."""
    chance = random.Random(11)  # noqa: S311 - the same ones each time
    request = encode_request(Can(Load("rss", bytes(32))))
    unanswered = 0
    for number in range(3000):
        packet = bytearray(request if number % 2 else chance.randbytes(chance.randrange(1, 200)))
        packet[chance.randrange(len(packet))] = chance.randrange(256)
        with connect(helper.path) as sock:
            sock.send(packet)
            unanswered += not sock.recv(4096)

    assert unanswered == 0


def test_requests_one_after_the_other_are_all_answered(helper: HelperProcess) -> None:
    """A connection may be used as often as one likes."""
    with connect(helper.path) as sock:
        replies = [ask(sock, Hello()).reply for _ in range(200)]

    assert all(isinstance(reply, HelloReply) for reply in replies)


OBJECT_IDS = {
    "empty": "",
    "unknown": "other",
    "another case": "RSS",
    "with a path": "../rss",
    "a path": "/etc/shadow",
    "with NUL": "rs\0s",
    "with NUL at its end": "rss\0",
    "with a space": "rss ",
    "with a newline": "rss\n",
    "of letters that look alike": "r\u0455\u0455",
    "full width": "\uff52\uff53\uff53",
    "a format": "%s%n",
    "of 64 bytes": "x" * 64,
}


@pytest.mark.qemu
@pytest.mark.parametrize("object_id", OBJECT_IDS.values(), ids=OBJECT_IDS)
def test_an_object_id_that_nobody_knows_is_refused(
    helper: HelperProcess, rss_digest: bytes, object_id: str
) -> None:
    """Also with the digest of an object that is there; the connection stays."""
    with connect(helper.path) as sock:
        sock.send(encode_request(Load(object_id, rss_digest)))
        code = code_of_next(sock)

        assert (
            code,
            isinstance(ask(sock, Hello()).reply, HelloReply),
        ) == (Code.UNKNOWN_OBJECT, True)


@pytest.mark.qemu
def test_a_digest_that_nobody_knows_is_refused(helper: HelperProcess, rss_digest: bytes) -> None:
    """Each with one bit changed, and none at all."""
    wrong = [bytes(32), b"\xff" * 32]
    wrong += [bytes([rss_digest[0] ^ 1]) + rss_digest[1:], rss_digest[:31] + bytes(1)]
    with connect(helper.path) as sock:
        for digest in wrong:
            sock.send(encode_request(Load("rss", digest)))

            assert code_of_next(sock) == Code.UNKNOWN_OBJECT


def test_an_object_id_of_64_kib_is_a_bad_request(helper: HelperProcess) -> None:
    """It does not fit into a packet."""
    packet = packets.packed({"v": 1, "op": "load", "id": "x" * 65_536, "digest": bytes(32)})

    assert send_raw(helper.path, packet) == BAD


def test_a_fork_of_a_client_can_go_on(helper: HelperProcess) -> None:
    """The connection belongs to both, and speaks for who made it."""
    with connect(helper.path) as sock:
        pid = fork()
        if pid == 0:
            try:
                sock.send(HELLO)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)

        assert isinstance(take(sock, Hello()).reply, HelloReply)
