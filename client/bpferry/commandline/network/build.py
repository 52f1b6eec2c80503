# SPDX-License-Identifier: LGPL-2.1-or-later
"""Network cards: the devices that the guest sees. What stands behind them is in ``netdevs``."""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.applicable import check_address, refuse_others
from bpferry.commandline.context import Context, unsupported, virtio_properties
from bpferry.commandline.network.card_fields import VIRTIO, fields_without_effect, meaningful_fields
from bpferry.commandline.network.netdevs import netdev_id, netdev_parts
from bpferry.commandline.parts import Command, Device, Part, Remark, Slot
from bpferry.commandline.system.boot import boot_indexes
from bpferry.domain.identity import card_mac_of
from bpferry.domain.model.cards import Card
from bpferry.domain.names import cards_of
from bpferry.qemu.defaults import card_model_of
from bpferry.steering.plan import CardPlan, Rung

RSS_ROLES: Final = ("program", "config", "key", "table")
"""The order of virtio-net's property ebpf-rss-fds (hw/net/virtio-net.c)."""

EXPRESS_MODELS: Final = ("virtio", "virtio-non-transitional", "e1000e", "igb")
"""The models that are PCI Express devices where there is PCI Express."""

VIRTUAL_FUNCTIONS: Final = ("igb",)
"""The models that have functions of their own on their bus, for which a conventional one has no
room: QEMU puts them 16 slots behind the card, where others sit (hw/net/igb.c)."""

USB_MODELS: Final = ("usb-net",)

TX_MODES: Final = {"iothread": "bh", "timer": "timer"}
"""What libvirt calls the ways to send, and what QEMU does."""

OFFLOADS: Final = (
    "ioeventfd", "event_idx", "csum", "gso", "host_tso4", "host_tso6", "host_ecn", "host_ufo",
    "mrg_rxbuf", "guest_csum", "guest_tso4", "guest_tso6", "guest_ecn", "guest_ufo",
    "rx_queue_size", "tx_queue_size",
)  # fmt: skip
"""The properties of virtio-net that the model calls by QEMU's own names."""


def set_names(card_id: str) -> tuple[str, ...]:
    """Return the names of the fds of a card's eBPF set, in the order in which QEMU wants them."""
    return tuple(f"{card_id}.{role}" for role in RSS_ROLES)


def parts(context: Context) -> Iterator[Part]:
    """Yield the netdevs and devices of all cards."""
    boot = boot_indexes(context.machine) if context.machine.cards else {}
    for index, (key, card_id, card) in enumerate(cards_of(context.machine)):
        model = card_model_of(card, context.capabilities)
        _check(card, key, model)
        if not model.startswith("virtio"):
            yield from _remarks(card, key, model)
        if model in VIRTUAL_FUNCTIONS and not context.has_pci_express:
            raise unsupported(f"{key}.model", f"an '{model}' needs a machine with PCI Express")
        yield from netdev_parts(card, key, card_id, context)
        properties = {
            "netdev": netdev_id(card_id),
            "mac": card_mac_of(card, context.owner, context.machine.name, index),
            "bootindex": boot.get(key),
            "acpi-index": card.acpi_index,
            **_rom(card, key, model, context),
            **(_virtio(card, key, card_id, context) if model.startswith("virtio") else {}),
        }
        yield Device(
            _driver(model, context), card_id, key, properties, _slot_of(model), card.address
        )
        if card.link == "down":
            yield Command("set_link", {"name": card_id, "up": False}, f"{key}.link")


def _remarks(card: Card, key: str, model: str) -> Iterator[Remark]:
    """Yield what the user is told of words for virtio cards on another."""
    fields = fields_without_effect(card)
    if fields:
        words = ", ".join(f"'{field}'" for field in fields)
        text = f"'{key}': a card of model '{model}' has nothing of this: {words}"
        yield Remark(text, "choose the model 'virtio'", key)


def _check(card: Card, key: str, model: str) -> None:
    """Raise Unsupported if *card* says what has no meaning for its type or its model."""
    virtio = model.startswith("virtio")
    if card.type == "vhostuser" and not virtio:
        raise unsupported(f"{key}.model", "a card of type vhostuser has a virtio model")
    meaningful = meaningful_fields(card, virtio=virtio)
    refuse_others(card, key, meaningful | VIRTIO, f"a card of type '{card.type}'")
    refuse_others(card, key, meaningful, f"a card of model '{model}'")
    check_address(card, key, *(("usb",) if model in USB_MODELS else ("pci", "virtio-mmio")))
    if virtio and (card.queues or 1) > 1 and not (card.has_tap or card.type == "vhostuser"):
        raise unsupported(
            f"{key}.queues",
            f"a card of type '{card.type}' has one queue",
            "leave the number of queues out, or give the card a tap",
        )
    _check_rom(card, key, model)


def _check_rom(card: Card, key: str, model: str) -> None:
    if model in USB_MODELS:
        for field in ("rom", "rom_bar", "rom_file", "acpi_index"):
            if getattr(card, field) is not None:
                name = field.replace("_", "-")
                raise unsupported(f"{key}.{name}", "it is for cards on PCI")
    if card.rom_file and not card.rom_file.startswith("/"):
        raise unsupported(f"{key}.rom-file", "it has to be an absolute path")
    if card.rom is False and (card.rom_bar is not None or card.rom_file is not None):
        raise unsupported(f"{key}.rom", "it is said that there is no ROM, and what it is like")


def _driver(model: str, context: Context) -> str:
    return context.virtio("virtio-net", model) if model.startswith("virtio") else model


def _slot_of(model: str) -> Slot:
    if model in USB_MODELS:
        return Slot.USB
    return Slot.EXPRESS if model in EXPRESS_MODELS else Slot.CONVENTIONAL


def _rom(card: Card, key: str, model: str, context: Context) -> dict[str, object]:
    if card.rom is None and card.rom_bar is None and card.rom_file is None:
        return {}
    if model.startswith("virtio") and not context.has_pci:
        raise unsupported(f"{key}.rom", "it is for cards on PCI")
    return {
        "rombar": None if card.rom_bar is None else int(card.rom_bar),
        "romfile": "" if card.rom is False else card.rom_file,
    }


def _virtio(card: Card, key: str, card_id: str, context: Context) -> dict[str, object]:
    _check_virtio(card, key, context)
    return {
        "tx": TX_MODES[card.txmode] if card.txmode else None,
        **{name: getattr(card, name) for name in OFFLOADS},
        **_steering(card, card_id, context.plans[card_id], context),
        "host_mtu": card.mtu,
        "failover": True if card.teaming else None,
        **virtio_properties(card),
    }


def _check_virtio(card: Card, key: str, context: Context) -> None:
    known = context.capabilities
    if card.rss_hash_report and "hash" not in known.card_properties:
        raise unsupported(
            f"{key}.rss-hash-report",
            f"the virtio-net of '{known.qemu}' (QEMU {known.version_text}) reports no hashes",
        )


def _steering(card: Card, card_id: str, plan: CardPlan, context: Context) -> dict[str, object]:
    properties: dict[str, object] = {}
    if plan.queues > 1:
        # One interrupt for each direction of each queue, one for changes, one for control.
        properties |= {"mq": True, "vectors": 2 * plan.queues + 2 if context.has_pci else None}
    if plan.rung is not Rung.NONE:
        properties["rss"] = True
    if card.rss_hash_report:
        properties["hash"] = True
    if plan.rung is Rung.EBPF:
        properties["ebpf-rss-fds"] = [context.fd(name) for name in set_names(card_id)]
    return properties
