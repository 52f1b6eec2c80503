# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is wrong with the design of one card, or not as good as it could be (``lint``)."""

from collections.abc import Callable, Iterator
from typing import Final

from bpferry.domain.forms import called
from bpferry.domain.model.cards import Card
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import Named
from bpferry.machine.faults import Fault, worst_first
from bpferry.qemu.capabilities import Capabilities
from bpferry.qemu.defaults import card_model_of

MAX_INTERFACE_BYTES: Final = 15
"""IFNAMSIZ without its final zero byte (linux/if.h)."""

MAX_TX_QUEUE_SIZE: Final = 256
"""For all back ends except vhost-user (virtio_net_max_tx_queue_size, hw/net/virtio-net.c)."""

OLD_MODELS: Final = ("rtl8139", "ne2k_pci", "pcnet")


def find_card_faults(
    device: Named[Card], machine: Machine, capabilities: Capabilities | None
) -> list[Fault]:
    """Return what there is to say against one card of *machine*, whatever its steering is."""
    found: list[Fault] = []
    for rule in CARD_RULES:
        found += rule(device.value, device.key, machine)
    return _weightiest([*found, *_default_model(device.value, device.key, capabilities)])


def _weightiest(faults: list[Fault]) -> list[Fault]:
    """Return the one of *faults* for each key that counts most: of equals, the first."""
    first: dict[str, Fault] = {}
    for fault in worst_first(faults):
        first.setdefault(fault.key, fault)
    return [fault for fault in faults if first[fault.key] is fault]


def _queues_without_back_end(card: Card, key: str, _: Machine) -> Iterator[Fault]:
    behind = card.has_tap or card.type == "vhostuser"
    # A card of another model has one queue whatever it says, which is told where it is built.
    if _queues(card) > 1 and not behind and card.is_virtio is not False:
        yield Fault(
            f"{key}.queues",
            "warning",
            f"{_queues(card)} queues on a card of type '{card.type}', which has one",
            "only taps and vhost-user have several queues",
            f"leave out {called(Card, 'queues')}, or give the card a tap",
        )


def _queues_without_processors(card: Card, key: str, machine: Machine) -> Iterator[Fault]:
    if _queues(card) > machine.vcpus and card.is_virtio is not False:
        yield Fault(
            f"{key}.queues",
            "warning",
            f"{_queues(card)} queues for {_count(machine.vcpus, 'processor')}",
            "a guest uses as many queues as it has processors",
            f"set {called(Card, 'queues')} to {machine.vcpus}, or give the guest more processors",
        )


def _rss_without_queues(card: Card, key: str, _: Machine) -> Iterator[Fault]:
    if card.rss and _queues(card) == 1:
        yield Fault(
            f"{key}.rss",
            "warning",
            "RSS on a card with one queue",
            "there is nothing to spread packets over",
            f"set {called(Card, 'queues')} to the number of processors, or leave out "
            f"{called(Card, 'rss')}",
        )


def _hash_reports(card: Card, key: str, _: Machine) -> Iterator[Fault]:
    if not card.rss_hash_report:
        return
    if card.driver == "vhost":
        yield Fault(
            f"{key}.rss-hash-report",
            "warning",
            "hash reports on a card with vhost",
            "QEMU withdraws them from the guest, since vhost does not make them",
            f"leave out {called(Card, 'rss_hash_report')}, or {called(Card, 'driver')}",
        )
    elif card.has_tap and card.rss:
        yield Fault(
            f"{key}.rss-hash-report",
            "warning",
            "hash reports on a card with RSS",
            "QEMU makes them itself, and so has to steer itself too: no eBPF and no vhost",
            f"leave out {called(Card, 'rss_hash_report')} unless the guest needs it",
        )


def _vhost_without_tap(card: Card, key: str, _: Machine) -> Iterator[Fault]:
    if card.driver == "vhost" and not card.has_tap:
        yield Fault(
            f"{key}.driver",
            "warning",
            f"vhost on a card of type '{card.type}'",
            "vhost works on taps only; libvirt ignores it here too",
            f"leave out {called(Card, 'driver')}",
        )


def _long_names(card: Card, key: str, _: Machine) -> Iterator[Fault]:
    for field in ("tap", "bridge", "interface"):
        name = getattr(card, field)
        if name is not None and len(name.encode()) > MAX_INTERFACE_BYTES:
            yield Fault(
                f"{key}.{field}",
                "error",
                f"'{name}' is too long for the name of an interface",
                f"the kernel takes {MAX_INTERFACE_BYTES} bytes",
                "give the interface a shorter name",
            )


def _deep_transmit_queue(card: Card, key: str, _: Machine) -> Iterator[Fault]:
    size = card.tx_queue_size
    if size is not None and size > MAX_TX_QUEUE_SIZE and card.type != "vhostuser":
        yield Fault(
            f"{key}.tx-queue-size",
            "warning",
            f"a transmit queue of {size} on a card of type '{card.type}'",
            f"except on vhost-user, QEMU silently reduces it to {MAX_TX_QUEUE_SIZE}",
            f"leave out {called(Card, 'tx_queue_size')}",
        )


def _mtu_of_existing_tap(card: Card, key: str, _: Machine) -> Iterator[Fault]:
    if card.type == "ethernet" and card.mtu is not None:
        yield Fault(
            f"{key}.mtu",
            "note",
            f"the guest is told an MTU of {card.mtu}, and the tap keeps its own",
            "changing a tap's MTU needs CAP_NET_ADMIN",
            f"ask the administrator to set it: ip link set {card.tap or 'TAP'} mtu {card.mtu}",
        )


def _old_model(card: Card, key: str, _: Machine) -> Iterator[Fault]:
    if card.model in OLD_MODELS:
        yield _slow(key, card.model)


CARD_RULES: Final[tuple[Callable[[Card, str, Machine], Iterator[Fault]], ...]] = (
    _queues_without_back_end,
    _queues_without_processors,
    _rss_without_queues,
    _hash_reports,
    _vhost_without_tap,
    _long_names,
    _deep_transmit_queue,
    _mtu_of_existing_tap,
    _old_model,
)


def _default_model(card: Card, key: str, capabilities: Capabilities | None) -> Iterator[Fault]:
    """Say which model is the default for a document that names none, if this QEMU tells."""
    if capabilities is None or card.model != "default" or card.type == "vhostuser":
        return
    model = card_model_of(card, capabilities)
    if model in OLD_MODELS:
        yield _slow(key, model)


def _slow(key: str, model: str) -> Fault:
    return Fault(
        f"{key}.model",
        "note",
        f"the card is of model '{model}'",
        "QEMU emulates hardware of the nineties, packet by packet; it is libvirt's default where "
        "no model is named",
        "choose the model 'virtio' if the guest has a driver for it",
    )


def _queues(card: Card) -> int:
    return card.queues or 1


def _count(number: int, one: str) -> str:
    return f"{number} {one if number == 1 else one + 's'}"
