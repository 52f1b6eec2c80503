# SPDX-License-Identifier: LGPL-2.1-or-later
"""Decoding is strict: each rule, with msgpack's parser in C and its parser in Python."""

import math

import msgpack
import msgpack.fallback
import pytest

from bpferry_wire import limits
from bpferry_wire.codec import Fields, decode, encode
from bpferry_wire.errors import BadMessage, Code
from bpferry_wire.messages import Hello
from bpferry_wire.packets import decode_request
from tests.support import packets
from tests.support.packets import packed, raw_map

PARSERS = {"C": msgpack.unpackb, "Python": msgpack.fallback.unpackb}


@pytest.fixture(params=PARSERS, autouse=True)
def _parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test of this file with both parsers."""
    monkeypatch.setattr(msgpack, "unpackb", PARSERS[request.param])


def test_both_parsers_are_there() -> None:
    """The test runs would be the same otherwise."""
    assert msgpack.Unpacker is not msgpack.fallback.Unpacker


@pytest.mark.parametrize("packet", packets.BAD.values(), ids=packets.BAD)
def test_a_bad_packet_is_a_bad_request(packet: bytes) -> None:
    """Everything that is not a request raises the same error with a sentence."""
    with pytest.raises(BadMessage) as caught:
        decode_request(packet)

    assert (caught.value.code, bool(str(caught.value))) == (Code.BAD_REQUEST, True)


@pytest.mark.parametrize("packet", packets.FOREIGN_VERSIONS.values(), ids=packets.FOREIGN_VERSIONS)
def test_another_version_has_its_own_code(packet: bytes) -> None:
    """A client of the future is told so, whatever else its packet says."""
    with pytest.raises(BadMessage) as caught:
        decode_request(packet)

    assert caught.value.code == Code.UNSUPPORTED_VERSION


@pytest.mark.parametrize("packet", packets.UNKNOWN_OPS.values(), ids=packets.UNKNOWN_OPS)
def test_an_unknown_operation_has_its_own_code(packet: bytes) -> None:
    """A client can tell an old helper from a mistake of its own."""
    with pytest.raises(BadMessage) as caught:
        decode_request(packet)

    assert caught.value.code == Code.UNKNOWN_OP


def test_the_same_request_decodes_after_each_error() -> None:
    """No error leaves anything behind in the parser."""
    for packet in packets.BAD.values():
        with pytest.raises(BadMessage):
            decode_request(packet)

        assert Hello() == decode_request(packets.HELLO)


def test_a_packet_of_the_greatest_length_is_decoded() -> None:
    """The bound itself is allowed: the complaint is about the key, not about the length."""
    with pytest.raises(BadMessage, match="unknown key 'pad'"):
        decode_request(packets.padded_hello(limits.MAX_REQUEST_BYTES))


def test_a_packet_one_byte_longer_is_refused_unread() -> None:
    """One more than the bound is refused before it is parsed."""
    with pytest.raises(BadMessage, match="has 4097 bytes, the limit is 4096"):
        decode_request(packets.padded_hello(limits.MAX_REQUEST_BYTES + 1))


def test_four_levels_are_allowed() -> None:
    """The packet is the first level."""
    value = {"a": {"b": {"c": [1]}}}

    assert value == decode(packed(value), 100)


def test_five_levels_are_refused() -> None:
    """One level more is too deep, whatever it consists of."""
    with pytest.raises(BadMessage, match="more than 4 levels"):
        decode(packed({"a": {"b": {"c": [[]]}}}), 100)


@pytest.mark.parametrize("length", [limits.MAX_TEXT_BYTES, limits.MAX_TEXT_BYTES + 1])
def test_text_is_bounded(length: int) -> None:
    """The longest text passes, one byte more does not."""
    value = {"a": "x" * length}
    allowed = length <= limits.MAX_TEXT_BYTES

    assert allowed == decodes(packed(value))


@pytest.mark.parametrize("length", [limits.MAX_ITEMS, limits.MAX_ITEMS + 1])
def test_lists_are_bounded(length: int) -> None:
    """The longest list passes, one entry more does not."""
    assert (length <= limits.MAX_ITEMS) == decodes(packed({"a": [0] * length}))


@pytest.mark.parametrize("length", [limits.MAX_ITEMS, limits.MAX_ITEMS + 1])
def test_maps_are_bounded(length: int) -> None:
    """The largest map passes, one entry more does not."""
    assert (length <= limits.MAX_ITEMS) == decodes(packed({str(n): 0 for n in range(length)}))


def decodes(packet: bytes) -> bool:
    """Say whether *packet* is decoded."""
    try:
        decode(packet, limits.MAX_REPLY_BYTES)
    except BadMessage:
        return False
    return True


def test_the_same_key_twice_is_refused_below_the_top_too() -> None:
    """What the two sides read must not depend on which of the two they take."""
    inner = raw_map((packed("a"), packed(1)), (packed("a"), packed(2)))

    with pytest.raises(BadMessage, match="same key twice"):
        decode(raw_map((packed("b"), inner)), 100)


@pytest.mark.parametrize("value", [1.0, math.nan, None, True, "1", b"1", [], {}, -1, 2**32])
def test_integer_takes_integers_only(value: object) -> None:
    """True is not a number, and neither is anything else that Python would take for one."""
    with pytest.raises(BadMessage, match="'n' in x"):
        Fields({"n": value}, "x").integer("n")


@pytest.mark.parametrize("value", [0, 1, None, "true", b""])
def test_boolean_takes_booleans_only(value: object) -> None:
    """Numbers are not booleans."""
    with pytest.raises(BadMessage, match="not a boolean"):
        Fields({"n": value}, "x").boolean("n")


@pytest.mark.parametrize("values", [[True], [-1], [2**32], ["1"], [1.0], [[1]]])
def test_integers_takes_lists_of_32_bit_numbers_only(values: list[object]) -> None:
    """One wrong entry spoils the list."""
    with pytest.raises(BadMessage, match="not a 32 bit number"):
        Fields({"n": values}, "x").integers("n")


@pytest.mark.parametrize("values", [[1], ["a"], [[]], [None]])
def test_records_takes_lists_of_maps_only(values: list[object]) -> None:
    """One wrong entry spoils the list."""
    with pytest.raises(BadMessage, match="is not a map"):
        Fields({"n": values}, "x").records("n")


def test_done_names_what_is_left() -> None:
    """The message tells the author of a client which key it was."""
    fields = Fields({"a": 1, "b": 2}, "the request")
    fields.integer("a")

    with pytest.raises(BadMessage, match="unknown key 'b' in the request"):
        fields.done()


def test_a_key_is_taken_once() -> None:
    """Taking it again would hide that the message lacks another."""
    fields = Fields({"a": 1}, "x")
    fields.integer("a")

    with pytest.raises(BadMessage, match="'a' is missing in x"):
        fields.integer("a")


def test_bytes_and_text_stay_apart() -> None:
    """What was encoded comes back with the same types."""
    value = {"text": "\u20ac", "octets": b"\xff", "yes": True, "list": [0, 2**32]}

    assert value == decode(encode(value), 100)
