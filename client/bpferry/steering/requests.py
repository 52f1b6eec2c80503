# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the helpers will be asked for the cards of a VM: the exact messages.

A dry run shows them as they go over the wire, with bytes in a readable form.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from bpferry.domain.forms import either
from bpferry.domain.identity import Owner, card_mac_of
from bpferry.domain.names import Named, cards_of
from bpferry.qemu.capabilities import Capabilities
from bpferry.steering.plan import RSS_OBJECT, CardPlan, Rung
from bpferry_wire import limits
from bpferry_wire.codec import decode
from bpferry_wire.frozen import Frozen
from bpferry_wire.messages import Bandwidth, Load, Rate, Tap
from bpferry_wire.packets import encode_request
from bpferry_wire.rates import limits_in_words
from bpferry_wire.vm_names import clean_vm_name

if TYPE_CHECKING:
    from bpferry.domain.model.cards import Card, Flow
    from bpferry.domain.model.machine import Machine

KILOBYTE: Final = 1000
KIB: Final = 1024
"""What libvirt counts rates and bursts in (virnetdevbandwidth.c: tc's kbps and kb)."""

OTHER_TAP: Final = "use a tap that exists already: " + either(
    'tap = "TAP"', "<interface type='ethernet'> with <target dev='TAP' managed='no'/>"
)
"""What to do if the helper cannot make the tap that a card asks for."""


class CardRequests(Frozen):
    """What is asked for one card; the tap before the program."""

    tap: Tap | None
    load: Load | None
    """It is asked for if nothing changes the plan before that."""


def build_requests(
    machine: "Machine", owner: Owner, plans: Mapping[str, CardPlan], capabilities: Capabilities
) -> dict[str, CardRequests]:
    """Return the requests for each card of *machine*, a VM of *owner*, by the card's id.

    Raises:
        Unsupported: no helper could understand what a card asks for.
    """
    return {
        device.id: requests_of(device, owner, machine.name, plans[device.id], capabilities)
        for device in cards_of(machine)
    }


def requests_of(
    device: "Named[Card]", owner: Owner, vm_name: str, plan: CardPlan, capabilities: Capabilities
) -> CardRequests:
    """Return the requests for one card of the VM *vm_name* of *owner*.

    Raises:
        Unsupported: no helper could understand what the card asks for.
    """
    card, tap = device.value, None
    if card.type in ("bridge", "network"):
        tap = _tap(card, plan, card_mac_of(card, owner, vm_name, device.number))
        tap = tap._replace(vm=clean_vm_name(vm_name))
        _check(tap, device)
    load = build_load(capabilities, vm_name) if plan.rung is Rung.EBPF else None
    return CardRequests(tap, load)


def build_load(capabilities: Capabilities, vm_name: str = "") -> Load:
    """Return the request for the program that this QEMU carries, for the VM of this name if any."""
    return Load(RSS_OBJECT, capabilities.objects[RSS_OBJECT].digest, clean_vm_name(vm_name))


def _tap(card: "Card", plan: CardPlan, mac: str) -> Tap:
    from bpferry.domain.model.cards import flows_of  # noqa: PLC0415 - where there is a card

    is_network = card.type == "network"
    source = (card.network if is_network else card.bridge) or ""
    if is_network and card.port_group is not None:
        source = f"{source}/{card.port_group}"
    return Tap(
        source=source,
        is_network=is_network,
        queues=plan.queues,
        mtu=card.mtu,
        mac=bytes.fromhex(mac.replace(":", "")),
        isolated=card.isolated,
        vlan=card.vlan,
        tagged=tuple(sorted(set(card.tagged_vlans) - {card.vlan})),
        bandwidth=Bandwidth(**{way: _rate(flow) for way, flow in flows_of(card).items()}),
    )


def _rate(flow: "Flow") -> Rate:
    """Return *flow* in the units of the wire."""
    return Rate(
        average=(flow.average or 0) * KILOBYTE,
        peak=flow.peak * KILOBYTE if flow.peak else None,
        burst=max(flow.burst * KIB, limits.MIN_BURST) if flow.burst else None,
    )


def _check(tap: Tap, device: "Named[Card]") -> None:
    """Raise Unsupported if the wire has no room for what the card asks for."""
    room = limits.MAX_NETWORK_BYTES if tap.is_network else limits.MAX_INTERFACE_BYTES
    if len(tap.source.encode()) > room:
        raise device.mistake(
            device.value.type,
            f"the name '{tap.source}' is longer than {room} bytes",
            f"write the name of a {device.value.type} of this host",
        )
    if tap.queues > limits.MAX_QUEUES:
        raise device.refusal(
            "queues",
            f"a tap from the helper has at most {limits.MAX_QUEUES} queues",
            f"ask for fewer, or {OTHER_TAP}",
        )
    if len(tap.tagged) > limits.MAX_TAGGED_VLANS:
        raise device.refusal(
            "tagged-vlans",
            f"a tap from the helper is in at most {limits.MAX_TAGGED_VLANS} VLANs with tags",
            f"ask for fewer, or {OTHER_TAP}",
        )
    if tap.mtu is not None and tap.mtu > limits.MAX_MTU:
        raise device.refusal("mtu", f"the MTU of a tap is at most {limits.MAX_MTU}", "ask for less")
    for way, rate in tap.bandwidth._asdict().items():
        _check_rate(rate, device, f"bandwidth.{way}")


def _check_rate(rate: Rate | None, device: "Named[Card]", field: str) -> None:
    """Raise Unsupported if the wire has no room for *rate*, which is in *field* of *device*."""
    for name, value in rate._asdict().items() if rate else ():
        unit, most = (KIB, limits.MAX_BURST) if name == "burst" else (KILOBYTE, limits.MAX_RATE)
        if value is not None and value > most:
            sentence = f"the kernel's limits go up to {most // unit} here"
            raise device.refusal(f"{field}.{name}", sentence, "write less, or leave the limit out")


def describe_source(tap: Tap) -> str:
    """Return where *tap* should be, and its limits."""
    vlans = [] if tap.vlan is None else [str(tap.vlan)]
    vlans += [f"{vlan} (tagged)" for vlan in tap.tagged]
    place = f" in VLAN {', '.join(vlans)}" if vlans else ""
    limits_of = limits_in_words(*(rate.average if rate else 0 for rate in tap.bandwidth))
    place += f" ({limits_of})" if limits_of else ""
    return f"{'network' if tap.is_network else 'bridge'} '{tap.source}'{place}"


def shown(requests: Mapping[str, CardRequests]) -> list[dict[str, object]]:
    """Return *requests* for people and programs, card by card."""
    return [
        shown_request
        for card_id, asked in requests.items()
        for shown_request in _shown_of(asked, card_id)
    ]


def _shown_of(asked: CardRequests, card_id: str) -> Iterator[dict[str, object]]:
    if asked.tap is not None:
        yield {"service": "tap", **_on_the_wire(asked.tap), "for": card_id}
    if asked.load is not None:
        yield {"service": "bpf", **_on_the_wire(asked.load), "for": card_id}


def _on_the_wire(request: Tap | Load) -> dict[str, object]:
    """Return the keys of *request* in a packet, without the version of the protocol."""
    packet = decode(encode_request(request), limits.MAX_REQUEST_BYTES)
    del packet["v"]
    match request:
        case Tap(mac=bytes() as mac):
            packet["mac"] = mac.hex(":")
        case Load(digest=digest):
            packet["digest"] = digest.hex()
    return packet
