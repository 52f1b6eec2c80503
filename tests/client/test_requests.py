# SPDX-License-Identifier: LGPL-2.1-or-later
"""What will be asked of the helpers for the cards of a VM."""

import msgspec
import pytest

from bpferry.domain.model.cards import Card, CardBandwidth, Flow
from bpferry.domain.names import cards_of
from bpferry.errors import Unsupported
from bpferry.steering.plan import HostFacts, plan_card
from bpferry.steering.requests import CardRequests, build_requests, describe_source, shown
from bpferry_wire.messages import Load, Tap
from bpferry_wire.packets import decode_request, encode_request
from tests.client.support import CAPABILITIES, CARD, DIGEST, MACHINE, OWNER

LOAD = {"service": "bpf", "op": "load", "id": "rss", "digest": DIGEST.hex(), "vm": "test"}
TAP = {"service": "tap", "op": "tap", "vm": "test"}
MAC = "52:54:00:00:00:09"


def asked_for(*cards: Card) -> dict[str, CardRequests]:
    """Return the requests for a VM with *cards*, as they are made."""
    machine = msgspec.structs.replace(MACHINE, cards=cards)
    plans = {
        device.id: plan_card(device, CAPABILITIES, HostFacts(), default_rss=False)
        for device in cards_of(machine)
    }
    return build_requests(machine, OWNER, plans, CAPABILITIES)


def requests_for(*cards: Card) -> list[dict[str, object]]:
    """Return the same as a dry run shows them."""
    return shown(asked_for(*cards))


def test_program_for_a_tap_that_exists() -> None:
    """A tap of the user's own needs a program, and one for each card."""
    other = msgspec.structs.replace(CARD, tap="tap1")

    assert [{**LOAD, "for": "net0"}, {**LOAD, "for": "net1"}] == requests_for(CARD, other)


def test_tap_on_a_bridge() -> None:
    """A tap on a bridge is asked for before the program, with all that it is to be."""
    card = Card(
        type="bridge", bridge="br0", queues=2, rss=True, mac=MAC, mtu=9000, isolated=True, vlan=7
    )

    tap, load = requests_for(card)

    assert {
        **TAP, "bridge": "br0", "queues": 2, "mac": MAC, "mtu": 9000, "isolated": True, "vlan": 7,
        "for": "net0",
    } == tap  # fmt: skip
    assert {**LOAD, "for": "net0"} == load


def test_limits_are_asked_for_in_bytes() -> None:
    """A kilobyte has 1,000, a kibibyte 1,024; a burst has room for the largest frame."""
    limits = CardBandwidth(
        inbound=Flow(average=1000, peak=5000, burst=1024), outbound=Flow(average=128, burst=1)
    )
    card = Card(type="bridge", bridge="br0", mac=MAC, bandwidth=limits)

    (request,) = requests_for(card)

    assert request["bandwidth"] == {
        "inbound": {"average": 1_000_000, "peak": 5_000_000, "burst": 1_048_576},
        "outbound": {"average": 128_000, "burst": 131_072},
    }


def test_limits_are_said_where_the_tap_is() -> None:
    """A dry run and the verbose messages have them."""
    card = Card(
        type="bridge", bridge="br0", vlan=7, bandwidth=CardBandwidth(inbound=Flow(average=1000))
    )
    tap = asked_for(card)["net0"].tap

    assert tap is not None
    assert "bridge 'br0' in VLAN 7 (at most 8 Mbit/s to the VM)" == describe_source(tap)


def test_tap_on_a_network() -> None:
    """A network is asked for by its name; what a document does not say is not asked for."""
    card = Card(type="network", network="lan", mac=MAC, bridge="virbr0")

    assert [{**TAP, "network": "lan", "queues": 1, "mac": MAC, "for": "net0"}] == requests_for(card)


def test_vlans_with_tags() -> None:
    """They are asked for in the order that the wire wants, each once."""
    card = Card(type="bridge", bridge="br0", mac=MAC, vlan=7, tagged_vlans=(30, 20, 30))

    (request,) = requests_for(card)

    assert (7, [20, 30]) == (request["vlan"], request["tagged"])


def test_port_group_of_a_network() -> None:
    """A kind of port is a name of its own below that of the network."""
    card = Card(type="network", network="lan", port_group="guests", mac=MAC)

    (request,) = requests_for(card)

    assert "lan/guests" == request["network"]


def test_nothing_for_other_cards() -> None:
    """A card without a tap asks nobody."""
    assert [] == requests_for(Card(type="user"), msgspec.structs.replace(CARD, rss=False))


def test_address_that_is_made_is_the_guest_s() -> None:
    """A card without an address has the one that its device gets."""
    first, second = requests_for(*(Card(type="bridge", bridge="br0") for _ in range(2)))

    assert first["mac"] != second["mac"]


def test_messages_are_what_is_shown() -> None:
    """What a helper reads is what the dry run said, with bytes where people read text."""
    card = Card(
        type="bridge", bridge="br0", queues=2, rss=True, mac=MAC, mtu=9000, isolated=True, vlan=7
    )

    asked = asked_for(card)["net0"]

    assert asked.tap == Tap(
        "br0",
        is_network=False,
        queues=2,
        mtu=9000,
        mac=bytes.fromhex(MAC.replace(":", "")),
        isolated=True,
        vlan=7,
        vm="test",
    )
    assert asked.load == Load("rss", DIGEST, "test")
    for message in asked:
        assert message is not None
        assert decode_request(encode_request(message)) == message


@pytest.mark.parametrize(
    ("name", "told"),
    [("web server", "web_server"), ("\u00e9t\u00e9", "_t_"), ("v" * 40, "v" * 32), ("", "")],
)
def test_the_vm_has_a_clean_name_on_the_wire(name: str, told: str) -> None:
    """As its helpers take it, for the tap and for the program; a VM without one sends none."""
    card = Card(type="bridge", bridge="br0", queues=2, rss=True, mac=MAC)
    machine = msgspec.structs.replace(MACHINE, name=name, cards=(card,))
    (device,) = cards_of(machine)
    plans = {"net0": plan_card(device, CAPABILITIES, HostFacts(), default_rss=False)}

    asked = build_requests(machine, OWNER, plans, CAPABILITIES)["net0"]

    assert [told, told] == [message.vm for message in asked if message is not None]
    for message in asked:
        assert message is not None
        assert decode_request(encode_request(message)) == message


TOO_FAST = Flow(average=2**32 // 1000 + 1)
TOO_LONG = Flow(average=1, burst=2**22)


@pytest.mark.parametrize(
    ("card", "key", "words"),
    [
        (Card(type="bridge", bridge="a" * 16), "cards[0].bridge", "longer than 15 bytes"),
        (Card(type="bridge", bridge="\N{SNOWMAN}" * 6), "cards[0].bridge", "longer than 15 bytes"),
        (Card(type="network", network="n" * 65), "cards[0].network", "longer than 64 bytes"),
        (
            Card(type="network", network="n" * 60, port_group="group"),
            "cards[0].network",
            "longer than 64 bytes",
        ),
        (Card(type="bridge", bridge="br0", queues=65), "cards[0].queues", "at most 64 queues"),
        (
            Card(type="bridge", bridge="br0", tagged_vlans=tuple(range(1, 66))),
            "cards[0].tagged-vlans",
            "at most 64 VLANs with tags",
        ),
        (Card(type="bridge", bridge="br0", mtu=65522), "cards[0].mtu", "at most 65521"),
        (
            Card(type="bridge", bridge="br0", bandwidth=CardBandwidth(inbound=TOO_FAST)),
            "cards[0].bandwidth.inbound.average",
            "up to 4294967 here",
        ),
        (
            Card(type="bridge", bridge="br0", bandwidth=CardBandwidth(outbound=TOO_LONG)),
            "cards[0].bandwidth.outbound.burst",
            "up to 4194303 here",
        ),
    ],
    ids=["bridge", "bytes", "network", "group", "queues", "vlans", "mtu", "average", "burst"],
)
def test_what_the_wire_has_no_room_for(card: Card, key: str, words: str) -> None:
    """What no helper can be asked for is refused before anybody is asked, by its key."""
    with pytest.raises(Unsupported, match=words) as caught:
        asked_for(card)

    assert caught.value.element == key
