# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every message survives the wire, and no packet raises anything but BadMessage."""

import random
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpferry_wire import limits
from bpferry_wire import messages as m
from bpferry_wire.errors import BadMessage, Code
from bpferry_wire.packets import decode_reply, decode_request, encode_reply, encode_request
from tests.support import packets
from tests.wire import strategies

SHARED = Path(__file__).parent.parent.parent / "shared"
LOAD = m.Load("rss", bytes(32))
TAP = m.Tap("br0", is_network=False, queues=4)
LONGEST_TAP = m.Tap(
    "n" * 64, is_network=True, queues=64, mtu=65_521, mac=bytes(6), isolated=True, vlan=4094,
    vm="v" * 32,
)  # fmt: skip
REQUESTS: tuple[m.Request, ...] = (
    m.Hello(), m.Quota(), m.Status(), m.ListTaps(), LOAD, TAP, LONGEST_TAP, m.Create(TAP),
    m.Delete("bfp00000000"), m.Can(LOAD), m.Can(TAP), m.Can(m.Create(LONGEST_TAP)),
)  # fmt: skip
ANSWERS: dict[type[m.Request], m.Reply] = {
    m.Hello: m.HelloReply("bpf", "1", m.Caller(0, (), 0), 4096, 64),
    m.Quota: m.QuotaReply(0, 1, 2, 3, "kernel"),
    m.Status: m.StatusReply((), "kernel"),
    m.Load: m.LoadReply(()),
    m.Tap: m.TapReply("bft00000000", "br0", 1500),
    m.ListTaps: m.ListReply(()),
    m.Delete: m.DeleteReply("bfp00000000"),
    m.Can: m.CanReply(allowed=True, because=""),
}
"""One for each request but ``create``, which is answered as ``tap`` is."""


def name_of(request: m.Request) -> str:
    """Return what a test is called by for *request*."""
    return type(request).__name__


thorough = settings(
    max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@thorough
@given(strategies.requests)
def test_a_request_survives_the_wire(request: m.Request) -> None:
    """What one side encodes the other decodes, equal in every field."""
    assert request == decode_request(encode_request(request))


@thorough
@given(strategies.exchanges())
def test_a_reply_survives_the_wire(exchange: tuple[m.Request, m.Reply | m.ErrorReply]) -> None:
    """What the helper encodes the client decodes, equal in every field."""
    request, reply = exchange

    assert reply == decode_reply(encode_reply(reply), request)


@thorough
@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_a_bad_message(packet: bytes) -> None:
    """Nothing but BadMessage comes out of decode_request."""
    assert isinstance(decoded_request(packet), m.Request | BadMessage)


@thorough
@given(st.data())
def test_a_mutated_request_is_a_request_or_a_bad_message(data: st.DataObject) -> None:
    """Nothing but BadMessage comes out for what is nearly a request."""
    packet = data.draw(strategies.mutated(encode_request(data.draw(strategies.requests))))

    assert isinstance(decoded_request(packet), m.Request | BadMessage)


def decoded_request(packet: bytes) -> m.Request | BadMessage:
    """Return what *packet* decodes to, or the one error that it may raise."""
    try:
        return decode_request(packet)
    except BadMessage as error:
        return error


@thorough
@given(st.data())
def test_a_mutated_reply_is_a_reply_or_a_bad_message(data: st.DataObject) -> None:
    """The client is as strict as the helper: it runs as a user with other secrets."""
    request, reply = data.draw(strategies.exchanges())
    packet = data.draw(strategies.mutated(encode_reply(reply)))
    try:
        decoded: object = decode_reply(packet, request)
    except BadMessage as error:
        decoded = error

    assert isinstance(decoded, m.Reply | m.ErrorReply | BadMessage)


@pytest.mark.parametrize("request_", REQUESTS, ids=name_of)
def test_every_prefix_of_a_request_is_a_bad_message(request_: m.Request) -> None:
    """No cut of a packet passes for the whole."""
    packet = encode_request(request_)
    for length in range(len(packet)):
        with pytest.raises(BadMessage):
            decode_request(packet[:length])


@pytest.mark.parametrize("request_", REQUESTS[:6], ids=name_of)
def test_a_reply_to_another_request_is_a_bad_message(request_: m.Request) -> None:
    """A reply counts only as an answer to what was asked."""
    others = [reply for asked, reply in ANSWERS.items() if asked is not type(request_)]
    for reply in others:
        with pytest.raises(BadMessage):
            decode_reply(encode_reply(reply), request_)

    assert len(others) == len(ANSWERS) - 1


def test_a_reply_with_ok_and_error_is_a_bad_message() -> None:
    """It is one or the other."""
    error = {"code": "failed", "message": "", "hint": ""}
    packet = packets.packed({"v": 1, "error": error, "ok": {}})

    with pytest.raises(BadMessage, match="unknown key 'ok'"):
        decode_reply(packet, m.Hello())


def test_an_unknown_error_code_is_a_bad_message() -> None:
    """The list of codes is closed."""
    error = {"code": "perhaps", "message": "", "hint": ""}

    with pytest.raises(BadMessage, match="unknown error code 'perhaps'"):
        decode_reply(packets.packed({"v": 1, "error": error}), m.Hello())


def test_an_fd_of_unknown_kind_is_a_bad_message() -> None:
    """An fd is a program or a map."""
    packet = encode_reply(m.LoadReply((m.FdDescription("a", "link", 1),)))

    with pytest.raises(BadMessage, match="unknown kind 'link'"):
        decode_reply(packet, m.Load("rss", bytes(32)))


@pytest.mark.parametrize("text", ["x" * 9000, "\u20ac" * 3000, "\ud800 lone", "\0\n"])
def test_an_error_of_any_text_can_be_sent(text: str) -> None:
    """A message is cut to what the wire carries, never in the middle of a character."""
    packet = encode_reply(m.ErrorReply(Code.FAILED, text, text))
    reply = decode_reply(packet, m.Hello())

    assert isinstance(reply, m.ErrorReply)
    assert text[:1000].encode(errors="backslashreplace").startswith(reply.message[:1000].encode())


@pytest.mark.parametrize("text", ["x" * 9000, "\ud800 lone"])
def test_a_reason_of_any_text_can_be_sent(text: str) -> None:
    """A line of the policy may be longer than a string of the wire."""
    reply = decode_reply(encode_reply(m.CanReply(allowed=False, because=text)), m.Can(TAP))

    assert isinstance(reply, m.CanReply)
    assert text.encode(errors="backslashreplace").startswith(reply.because.encode())


def test_the_longest_request_fits() -> None:
    """The bound of a request leaves room for every request that there is."""
    most = m.Rate(limits.MAX_RATE, limits.MAX_RATE, limits.MAX_BURST)
    tap = m.Tap(
        "x" * limits.MAX_NETWORK_BYTES,
        is_network=True,
        queues=limits.MAX_QUEUES,
        mtu=limits.MAX_MTU,
        mac=bytes(6),
        isolated=True,
        vlan=limits.MAX_VLAN,
        bandwidth=m.Bandwidth(most, most),
        tagged=tuple(range(4094 - limits.MAX_TAGGED_VLANS, 4094)),
        vm="v" * limits.MAX_VM_NAME_BYTES,
    )
    longest = m.Can(tap)
    lengths = [len(encode_request(request)) for request in (*REQUESTS, longest)]

    # The figure that limits.MAX_REQUEST_BYTES names.
    assert max(lengths) == 483 < limits.MAX_REQUEST_BYTES


def test_the_longest_status_fits() -> None:
    """A status of as many grants as can be stays below the bound of a reply."""
    most = 2**32 - 1
    vm, bridge = "v" * limits.MAX_VM_NAME_BYTES, "b" * limits.MAX_INTERFACE_BYTES
    grant = m.Grant(most, 2**31, "x" * limits.MAX_OBJECT_ID_BYTES, 2**64 - 1, vm=vm)
    tap = grant._replace(name=bridge, inbound=most, outbound=most, bridge=bridge)
    many = limits.MAX_STATUS_GRANTS
    replies = [m.StatusReply((one,) * many, "grants", most) for one in (grant, tap)]

    assert replies == [decode_reply(encode_reply(reply), m.Status()) for reply in replies]


def test_the_longest_list_fits() -> None:
    """A list of as many taps as can be, on bridges of the longest names, does too."""
    most = 2**32 - 1
    tap = m.OwnTap("x" * 15, "b" * 15, queues=most, made_with=most, stays=True, closed=True)
    tap = tap._replace(inbound=most, outbound=most)
    reply = m.ListReply((tap,) * limits.MAX_TAPS)

    assert reply == decode_reply(encode_reply(reply), m.ListTaps())


def test_a_list_that_is_too_long_is_a_bad_message() -> None:
    """The bound of a reply counts for lists too."""
    tap = m.OwnTap("x" * 15, "b" * 15, queues=256, made_with=256, stays=True, closed=False)
    packet = encode_reply(m.ListReply((tap,) * 2 * limits.MAX_TAPS))

    with pytest.raises(BadMessage, match="the limit is 163840"):
        decode_reply(packet, m.ListTaps())


def test_the_operating_system_s_msgpack_raises_nothing_else() -> None:
    """The helper runs on its Python parser; twenty thousand mutated packets go through that one."""
    program = (
        "import sys, struct; sys.path.insert(0, sys.argv[1])\n"
        "from bpferry_wire.packets import decode_request\n"
        "from bpferry_wire.errors import BadMessage\n"
        "raw, n, at = sys.stdin.buffer.read(), 0, 0\n"
        "while at < len(raw):\n"
        "    (size,) = struct.unpack_from('<I', raw, at); at += 4\n"
        "    try: decode_request(raw[at:at + size])\n"
        "    except BadMessage: n += 1\n"
        "    at += size\n"
        "print(n)\n"
    )
    corpus = mutations(random.Random(7), 20_000)  # noqa: S311 - the same ones each time
    stream = b"".join(struct.pack("<I", len(packet)) + packet for packet in corpus)
    done = subprocess.run(
        ["/usr/bin/python3", "-c", program, SHARED],
        input=stream, capture_output=True, check=False, env={"MSGPACK_PUREPYTHON": "1"},
    )  # fmt: skip

    assert (done.stderr, int(done.stdout) > len(corpus) // 2) == (b"", True)


def mutations(chance: random.Random, count: int) -> list[bytes]:
    """Return *count* packets, each one change away from a known one, good or bad."""
    seeds = [*map(encode_request, REQUESTS), *packets.BAD.values()]
    made = []
    for _ in range(count):
        packet = bytearray(chance.choice(seeds))
        packet[chance.randrange(len(packet))] = chance.randrange(256)
        made.append(bytes(packet))
    return made


def test_what_is_remembered_is_the_same_again() -> None:
    """A good packet means the same each time, and a bad one is as bad again."""
    good, bad = encode_request(LOAD), encode_request(LOAD)[:-1]
    for _ in range(3):
        assert decode_request(good) == LOAD
        with pytest.raises(BadMessage):
            decode_request(bad)
