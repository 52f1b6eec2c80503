# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is wrong with the design of a VM, or not as good as it could be, for ``bpferry check``.

Nothing here keeps a VM from starting, except names that no interface can have, and a tap that two
cards name, which are mistakes of the description. Anything else that does is refused when it is
read or built, such as more than 256 queues, a multicast address, or vhost-user without shared
memory.
"""

from collections.abc import Callable, Iterator
from typing import Final

from bpferry.domain.forms import Kind, called, either
from bpferry.domain.model.cards import Card
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import Named, cards_of, listed
from bpferry.machine.faults import Fault, Level, worst_first
from bpferry.machine.session_lint import find_session_faults
from bpferry.machine.steering_lint import find_steering_faults
from bpferry.qemu.capabilities import Capabilities
from bpferry.qemu.defaults import card_model_of
from bpferry.steering.plan import HostFacts

MAX_INTERFACE_BYTES: Final = 15
"""IFNAMSIZ without its final zero byte (linux/if.h)."""

MAX_TX_QUEUE_SIZE: Final = 256
"""For all back ends except vhost-user (virtio_net_max_tx_queue_size, hw/net/virtio-net.c)."""

WAYS_IN: Final = (
    "graphics", "serials", "parallels", "consoles", "channels", "cards", "host_devices",
    "qemu_arguments",
)  # fmt: skip
"""By which somebody may see a guest or speak to it."""

OLD_MODELS: Final = ("rtl8139", "ne2k_pci", "pcnet")


def find_faults(
    machine: Machine,
    capabilities: Capabilities | None = None,
    host: HostFacts | None = None,
    *,
    kind: Kind = "toml",
    libvirt_session: bool = False,
) -> tuple[Fault, ...]:
    """Return what there is to say against *machine*.

    Args:
        machine: the VM.
        capabilities: of its QEMU, if that could be asked.
        host: what was found on this host, if it was looked at.
        kind: of the document, for the lines that the user should write into it.
        libvirt_session: whether to add what libvirt's session mode would make of it.
    """
    found: list[Fault] = []
    for device in cards_of(machine):
        found += find_card_faults(device, machine, capabilities)
    found += _same(
        machine, "mac", "warning", "two cards on one network cannot have the same address"
    )
    found += _same(machine, "tap", "error", "a tap is opened by one card only")
    found += _vectors(machine)
    found += _out_of_reach(machine)
    if capabilities is not None and host is not None:
        told = {fault.key for fault in found}
        of_plans = find_steering_faults(machine, capabilities, host, kind)
        found += (fault for fault in of_plans if fault.key not in told)
    if libvirt_session:
        found += find_session_faults(machine)
    return tuple(found)


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


def _same(machine: Machine, field: str, level: Level, cause: str) -> Iterator[Fault]:
    """Find values of *field* that several cards share."""
    first: dict[str, str] = {}
    for device in cards_of(machine):
        value = getattr(device.value, field)
        if value is None:
            continue
        earlier = first.setdefault(value.lower() if field == "mac" else value, device.key)
        if earlier != device.key:
            yield Fault(
                f"{device.key}.{field}",
                level,
                f"another card has '{value}' too",
                cause,
                f"give one of the two another '{field}', or leave it out",
            )


def _vectors(machine: Machine) -> Iterator[Fault]:
    """Find numbers of interrupts that are passed to QEMU without bpferry's knowledge."""
    for word in listed(machine.qemu_arguments, "qemu-arguments"):
        if word.value.startswith("virtio-net") and ".vectors=" in word.value:
            yield Fault(
                word.key,
                "warning",
                f"'{word.value}' has an effect on cards with one queue only",
                "N queues need 2N + 2 interrupts, and cards with several queues get them",
                "leave it out, and the option before it",
            )


def _out_of_reach(machine: Machine) -> Iterator[Fault]:
    """Find a VM that runs, and that nobody can do anything with."""
    if machine.vsock is None and not any(getattr(machine, name) for name in WAYS_IN):
        yield Fault(
            "",
            "note",
            "nobody can reach this VM: it has no display, no serial port and no network card",
            fix="add "
            + either(
                '[[serials]] with type = "stdio", or [[cards]] with type = "user"',
                "<serial type='pty'/>, or <interface type='user'/>",
            ),
        )


def _queues(card: Card) -> int:
    return card.queues or 1


def _count(number: int, one: str) -> str:
    return f"{number} {one if number == 1 else one + 's'}"
