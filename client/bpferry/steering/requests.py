# SPDX-License-Identifier: LGPL-2.1-or-later
"""What will be asked of the helpers for the cards of a VM, as a dry run shows it."""

from collections.abc import Mapping

from bpferry.domain.model.cards import Card
from bpferry.domain.model.machine import Machine
from bpferry.qemu.capabilities import Capabilities
from bpferry.qemu.commandline.names import cards_of
from bpferry.qemu.defaults import card_mac_of
from bpferry.steering.plan import RSS_OBJECT, CardPlan, Rung

Request = dict[str, object]


def build_requests(
    machine: Machine, plans: Mapping[str, CardPlan], capabilities: Capabilities
) -> list[Request]:
    """Return the requests for all cards, card by card, the tap before the program."""
    requests = []
    for index, (_, card_id, card) in enumerate(cards_of(machine)):
        plan = plans[card_id]
        if card.type in ("bridge", "network"):
            requests.append(_tap(card, plan, card_mac_of(card, machine.name, index)))
        if plan.rung is Rung.EBPF:
            requests.append(_load(plan, capabilities))
    return requests


def _tap(card: Card, plan: CardPlan, mac: str) -> Request:
    name = card.bridge if card.type == "bridge" else card.network
    if card.type == "network" and card.port_group is not None:
        name = f"{card.network}/{card.port_group}"
    optional: Request = {"mtu": card.mtu, "isolated": card.isolated or None}
    return {
        "service": "tap",
        "op": "tap",
        card.type: name,
        "queues": plan.queues,
        "mac": mac,
        **{key: value for key, value in optional.items() if value is not None},
        "for": plan.card_id,
    }


def _load(plan: CardPlan, capabilities: Capabilities) -> Request:
    return {
        "service": "bpf",
        "op": "load",
        "id": RSS_OBJECT,
        "digest": capabilities.objects[RSS_OBJECT].digest.hex(),
        "for": plan.card_id,
    }
