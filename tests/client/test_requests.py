# SPDX-License-Identifier: LGPL-2.1-or-later
"""What will be asked of the helpers for the cards of a VM."""

import msgspec

from bpferry.domain.model.cards import Card
from bpferry.qemu.commandline.names import cards_of
from bpferry.steering.plan import HostFacts, plan_card
from bpferry.steering.requests import Request, build_requests
from tests.client.support import CAPABILITIES, CARD, DIGEST, MACHINE

LOAD = {"service": "bpf", "op": "load", "id": "rss", "digest": DIGEST.hex()}
TAP = {"service": "tap", "op": "tap"}
MAC = "52:54:00:00:00:09"


def requests_for(*cards: Card) -> list[Request]:
    """Return the requests for a VM with *cards*."""
    machine = msgspec.structs.replace(MACHINE, cards=cards)
    plans = {
        card_id: plan_card(card, card_id, CAPABILITIES, HostFacts())
        for _, card_id, card in cards_of(machine)
    }
    return build_requests(machine, plans, CAPABILITIES)


def test_program_for_a_tap_that_exists() -> None:
    """A tap of the user's own needs a program, and one for each card."""
    other = msgspec.structs.replace(CARD, tap="tap1")

    assert [{**LOAD, "for": "net0"}, {**LOAD, "for": "net1"}] == requests_for(CARD, other)


def test_tap_on_a_bridge() -> None:
    """A tap on a bridge is asked for before the program, with all that it is to be."""
    card = Card(type="bridge", bridge="br0", queues=2, rss=True, mac=MAC, mtu=9000, isolated=True)

    tap, load = requests_for(card)

    assert {
        **TAP, "bridge": "br0", "queues": 2, "mac": MAC, "mtu": 9000, "isolated": True,
        "for": "net0",
    } == tap  # fmt: skip
    assert {**LOAD, "for": "net0"} == load


def test_tap_on_a_network() -> None:
    """A network is asked for by its name; what a document does not say is not asked for."""
    card = Card(type="network", network="lan", mac=MAC, bridge="virbr0")

    assert [{**TAP, "network": "lan", "queues": 1, "mac": MAC, "for": "net0"}] == requests_for(card)


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
