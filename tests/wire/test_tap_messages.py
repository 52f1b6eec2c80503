# SPDX-License-Identifier: LGPL-2.1-or-later
"""What may be said about a tap: the bounds of a request, and of what is answered.

What is beyond them is in ``tests.support.packets``, for the decoder and the real helpers alike.
"""

import pytest

from bpferry_wire import messages as m
from bpferry_wire.errors import BadMessage
from bpferry_wire.packets import decode_reply, decode_request
from tests.support.packets import ABSENT, TAP_CHANGES, packed, tap

TAP = m.Tap("br0", is_network=False, queues=4)

AT_THE_BOUNDS: dict[str, tuple[dict[str, object], m.Tap]] = {
    "nothing more": ({}, TAP),
    "1 queue": ({"queues": 1}, TAP._replace(queues=1)),
    "64 queues": ({"queues": 64}, TAP._replace(queues=64)),
    "an MTU of 68": ({"mtu": 68}, TAP._replace(mtu=68)),
    "an MTU of 65,521": ({"mtu": 65_521}, TAP._replace(mtu=65_521)),
    "an address": ({"mac": b"RT\0\0\0\1"}, TAP._replace(mac=b"RT\0\0\0\1")),
    "isolated": ({"isolated": True}, TAP._replace(isolated=True)),
    "VLAN 1": ({"vlan": 1}, TAP._replace(vlan=1)),
    "VLAN 4094": ({"vlan": 4094}, TAP._replace(vlan=4094)),
    "no limit": ({"bandwidth": {}}, TAP),
    "the least limits": (
        {"bandwidth": {"inbound": {"average": 1000, "peak": 1000, "burst": 131_072}}},
        TAP._replace(bandwidth=m.Bandwidth(inbound=m.Rate(1000, 1000, 131_072))),
    ),
    "the greatest limits": (
        {
            "bandwidth": {
                "inbound": {"average": 2**32 - 1},
                "outbound": {"average": 2**32 - 1, "peak": 2**32 - 1, "burst": 2**32 - 1},
            }
        },
        TAP._replace(
            bandwidth=m.Bandwidth(m.Rate(2**32 - 1), m.Rate(2**32 - 1, 2**32 - 1, burst=2**32 - 1))
        ),
    ),
    "a VM of one letter": ({"vm": "w"}, TAP._replace(vm="w")),
    "a VM of 32 characters": ({"vm": "aZ09_.-" + 25 * "x"}, TAP._replace(vm="aZ09_.-" + 25 * "x")),
    "not isolated": ({"isolated": False}, TAP),
    "a bridge of 15 bytes": ({"bridge": "b" * 15}, TAP._replace(source="b" * 15)),
    "a bridge of 5 three-byte letters": (
        {"bridge": "\u20ac" * 5},
        TAP._replace(source="\u20ac" * 5),
    ),
    "a network of 64 bytes": (
        {"bridge": ABSENT, "network": "n" * 64},
        TAP._replace(source="n" * 64, is_network=True),
    ),
}


@pytest.mark.parametrize(("changes", "expected"), AT_THE_BOUNDS.values(), ids=AT_THE_BOUNDS)
def test_the_bounds_themselves_are_allowed(changes: dict[str, object], expected: m.Tap) -> None:
    """The least and the most of everything, and a key that is not there is no wish."""
    assert expected == decode_request(packed({"v": 1, **tap(**changes)}))


@pytest.mark.parametrize(("changes", "expected"), AT_THE_BOUNDS.values(), ids=AT_THE_BOUNDS)
def test_to_create_takes_the_same_keys(changes: dict[str, object], expected: m.Tap) -> None:
    """A tap that stays is asked for in the same words."""
    request = tap(op="create", **changes)

    assert m.Create(expected) == decode_request(packed({"v": 1, **request}))


TRUNKS: tuple[tuple[int, ...], ...] = ((1,), (1, 4094), tuple(range(100, 164)))


@pytest.mark.parametrize("tagged", TRUNKS, ids=["the least", "the bounds", "the most"])
def test_vlans_with_tags(tagged: tuple[int, ...]) -> None:
    """Up to 64 of them, beside one without a tag."""
    request = {"v": 1, **tap(vlan=7, tagged=list(tagged))}

    assert TAP._replace(vlan=7, tagged=tagged) == decode_request(packed(request))


def test_no_vlans_with_tags() -> None:
    """An empty list is the same as none."""
    assert TAP == decode_request(packed({"v": 1, **tap(tagged=[])}))


def test_a_tap_that_stays_has_no_vlans_with_tags() -> None:
    """The reason is said."""
    with pytest.raises(BadMessage, match="not for a tap that stays: its alias has no room"):
        decode_request(packed({"v": 1, **tap(op="create", tagged=[7])}))


@pytest.mark.parametrize(
    ("op", "expected"), [("tap", m.Can(TAP)), ("create", m.Can(m.Create(TAP)))]
)
def test_one_may_ask_about_it(op: str, expected: m.Can) -> None:
    """The inner request is one without a version."""
    assert expected == decode_request(packed({"v": 1, "op": "can", "request": tap(op=op)}))


ASCENDING = "in the request is not up to 64 numbers from 1 to 4094 in ascending order"
NO_VM = "'vm' in the packet is not 1 to 32 of the characters A-Z a-z 0-9 _ . -"
WORDS = {
    "a bridge and a network": "unknown key 'bridge' in the request",
    "neither a bridge nor a network": "'bridge' is missing in the request",
    "0 queues": "'queues' in the request is 0, not within 1 to 64",
    "65 queues": "'queues' in the request is 65, not within 1 to 64",
    "2^64-1 queues": "'queues' in the request is 18446744073709551615, not within 1 to 64",
    "True queues": "'queues' in the request is a boolean, not an integer",
    "1.0 queues": "a value of type float is not used in this protocol",
    "queues as text": "'queues' in the request is text, not an integer",
    "an MTU of 67": "'mtu' in the request is 67, not within 68 to 65521",
    "an MTU of 65,522": "'mtu' in the request is 65522, not within 68 to 65521",
    "an address of 5 bytes": "'mac' in the request has 5 bytes where 6 are wanted",
    "an address of 7 bytes": "'mac' in the request has 7 bytes where 6 are wanted",
    "a bridge of 16 bytes": "'bridge' in the request is longer than 15 bytes",
    "a network of 65 bytes": "'network' in the request is longer than 64 bytes",
    "isolated as 1": "'isolated' in the request is an integer, not a boolean",
    "tagged VLAN 0": f"'tagged' {ASCENDING}",
    "tagged VLAN 4095": f"'tagged' {ASCENDING}",
    "the same tagged VLAN twice": f"'tagged' {ASCENDING}",
    "65 tagged VLANs": f"'tagged' {ASCENDING}",
    "a tagged VLAN as text": "an entry of 'tagged' in the request is not a 32 bit number",
    "VLAN 0": "'vlan' in the request is 0, not within 1 to 4094",
    "VLAN 4095": "'vlan' in the request is 4095, not within 1 to 4094",
    "a bandwidth of a third way": "unknown key 'both' in 'bandwidth'",
    "a limit without an average": "'average' is missing in 'inbound'",
    "an average of 999": "'average' in 'inbound' is 999, not within 1000 to 4294967295",
    "a burst of 131,071": "'burst' in 'inbound' is 131071, not within 131072 to 4294967295",
    "a limit with a floor": "unknown key 'floor' in 'inbound'",
    "flags": "unknown key 'flags' in the request",
    "a VM of 33 characters": NO_VM,
    "a VM without a letter": NO_VM,
    "a VM with a space": NO_VM,
    "a VM with a sign of an alias": NO_VM,
    "a VM with a new line": NO_VM,
    "a VM in Greek": NO_VM,
    "a VM as bytes": "'vm' in the request is bytes, not text",
}


@pytest.mark.parametrize(("name", "words"), WORDS.items(), ids=WORDS)
def test_what_is_wrong_is_said(name: str, words: str) -> None:
    """The message names the key and the bound."""
    with pytest.raises(BadMessage) as caught:
        decode_request(packed({"v": 1, **tap(**TAP_CHANGES[name])}))

    assert words == str(caught.value)


OWN_TAP: dict[str, object] = {
    "interface": "bft0",
    "bridge": "br0",
    "queues": 4,
    "made_with": 4,
    "stays": False,
    "closed": False,
}
BAD_REPLIES: dict[str, tuple[m.Request, dict[str, object]]] = {
    "an interface of 16 bytes": (TAP, {"interface": "x" * 16, "bridge": "br0", "mtu": 1500}),
    "a bridge of 16 bytes": (TAP, {"interface": "bft0", "bridge": "x" * 16, "mtu": 1500}),
    "an MTU as text": (TAP, {"interface": "bft0", "bridge": "br0", "mtu": "1500"}),
    "no MTU": (m.Create(TAP), {"interface": "bft0", "bridge": "br0"}),
    "a key too many": (TAP, {"interface": "bft0", "bridge": "br0", "mtu": 1500, "fds": []}),
    "a list of names": (m.ListTaps(), {"taps": ["bft0"]}),
    "an entry without a bridge": (m.ListTaps(), {"taps": [{"interface": "bft0"}]}),
    "stays as 1": (m.ListTaps(), {"taps": [OWN_TAP | {"stays": 1}]}),
    "an entry with a key too many": (m.ListTaps(), {"taps": [OWN_TAP | {"uid": 0}]}),
    "a list with a key too many": (m.ListTaps(), {"taps": [OWN_TAP], "more": True}),
    "a deleted interface of 16 bytes": (m.Delete("bfp0"), {"interface": "x" * 16}),
    "no deleted interface": (m.Delete("bfp0"), {}),
}


@pytest.mark.parametrize(("request_", "ok"), BAD_REPLIES.values(), ids=BAD_REPLIES)
def test_a_reply_that_is_none_is_a_bad_message(request_: m.Request, ok: dict[str, object]) -> None:
    """The client is as strict as the helper."""
    with pytest.raises(BadMessage):
        decode_reply(packed({"v": 1, "ok": ok}), request_)


def test_a_list_of_taps_is_read() -> None:
    """The entry of the tests above is right but for what they change."""
    reply = decode_reply(packed({"v": 1, "ok": {"taps": [OWN_TAP]}}), m.ListTaps())

    tap = m.OwnTap("bft0", "br0", queues=4, made_with=4, stays=False, closed=False)
    assert reply == m.ListReply((tap,))
