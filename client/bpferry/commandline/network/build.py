# SPDX-License-Identifier: LGPL-2.1-or-later
"""Network cards: the devices that the guest sees. What is behind them is in ``netdevs``."""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.applicable import check_address, refuse_others
from bpferry.commandline.attempt import attempt
from bpferry.commandline.context import Context, virtio_properties
from bpferry.commandline.network.card_fields import VIRTIO, fields_without_effect, meaningful_fields
from bpferry.commandline.network.netdevs import netdev_id, netdev_parts
from bpferry.commandline.network.tap_card import set_names, steering_properties
from bpferry.commandline.parts import Command, Device, Found, Part, Remark, Slot
from bpferry.commandline.system.boot import boot_indexes
from bpferry.domain.identity import card_mac_of
from bpferry.domain.model.cards import Card, flows_of
from bpferry.domain.names import Named, cards_of
from bpferry.errors import Unsupported
from bpferry.qemu.defaults import card_model_of
from bpferry.steering.requests import KIB
from bpferry_wire.limits import MIN_BURST

EXPRESS_MODELS: Final = ("virtio", "virtio-non-transitional", "e1000e", "igb")
"""The models that are PCI Express devices on a machine with PCI Express."""

VIRTUAL_FUNCTIONS: Final = ("igb",)
"""Models with virtual functions, for which a conventional bus has no room: QEMU puts them 16 slots
behind the card, where other devices sit (hw/net/igb.c)."""

USB_MODELS: Final = ("usb-net",)

HELPED: Final = ("bridge", "network")
"""The types of cards whose taps the helper makes."""

UNLIMITED_TAP: Final = (
    "setting a limit on a tap that exists needs CAP_NET_ADMIN",
    "make the tap with limits: bpferry tap create --inbound RATE --outbound RATE BRIDGE",
)
UNLIMITED: Final = (
    "this card is connected to a program, whose traffic the kernel cannot limit",
    "use a bridge: limits are set on the tap of a card",
)

ROM: Final = ("rom", "rom_bar", "rom_file")

TX_MODES: Final = {"iothread": "bh", "timer": "timer"}
"""The ways to send, by libvirt's name and by QEMU's."""

OFFLOADS: Final = (
    "ioeventfd", "event_idx", "csum", "gso", "host_tso4", "host_tso6", "host_ecn", "host_ufo",
    "mrg_rxbuf", "guest_csum", "guest_tso4", "guest_tso6", "guest_ecn", "guest_ufo",
    "rx_queue_size", "tx_queue_size",
)  # fmt: skip
"""The properties of virtio-net that the model calls by QEMU's own names."""


def parts(context: Context) -> Iterator[Part]:
    """Yield the netdevs and devices of all cards."""
    for device in cards_of(context.machine):
        yield from attempt(card_parts, device, context)


def card_parts(device: Named[Card], context: Context) -> Iterator[Found]:
    """Yield what is behind one card, the card, and what is refused of it."""
    card = device.value
    model = card_model_of(card, context.capabilities)
    is_virtio = model.startswith("virtio")
    yield from _check(device, model, context)
    if not is_virtio:
        yield from _remarks(device, model)
    yield from _small_bursts(device)
    yield from netdev_parts(device, context)
    properties = {
        "netdev": netdev_id(device.id),
        "mac": card_mac_of(card, context.owner, context.machine.name, device.number),
        "bootindex": boot_indexes(context.machine).get(device.key),
        **_rom(card),
        **(_virtio(device, context) if is_virtio else {}),
    }
    driver = context.virtio("virtio-net", model) if is_virtio else model
    yield Device(
        driver, device.id, device.key, properties, slot=_slot_of(model), address=card.address
    )
    if card.link == "down":
        yield Command("set_link", {"name": device.id, "up": False}, f"{device.key}.link")


def _remarks(device: Named[Card], model: str) -> Iterator[Remark]:
    """Yield what the user is told of virtio settings on other cards."""
    fields = fields_without_effect(device.value)
    if fields:
        words = ", ".join(fields)
        text = f"a card of model '{model}' does not support {words}"
        yield Remark(text, "choose the model 'virtio'", device.key)


def _small_bursts(device: Named[Card]) -> Iterator[Remark]:
    """Yield what the user is told of bursts that no frame of a tap would fit into."""
    least = MIN_BURST // KIB
    for way, flow in flows_of(device.value).items():
        if flow.burst is not None and flow.burst < least:
            text = f"a burst of {flow.burst} KiB counts as {least}: larger frames would never pass"
            key = f"{device.key}.bandwidth.{way}.burst"
            yield Remark(text, f"write {least} or more, or leave it out", key)


def _check(device: Named[Card], model: str, context: Context) -> Iterator[Unsupported]:
    """Refuse what is not possible, or has no meaning for this kind of card."""
    card = device.value
    virtio = model.startswith("virtio")
    if card.type == "vhostuser" and not virtio:
        yield device.refusal(
            "model",
            "a card of type vhostuser has a virtio model",
            "choose the model 'virtio', or leave it out",
        )
    if model in VIRTUAL_FUNCTIONS and not context.has_pci_express:
        yield device.refusal(
            "model",
            f"a card of model '{model}' needs a machine with PCI Express",
            "choose the machine type 'q35' or 'virt', or the model 'e1000'",
        )
    if virtio:
        yield from _check_virtio(device, context)
    if card.bandwidth is not None and card.type not in HELPED:
        reason = UNLIMITED_TAP if card.type == "ethernet" else UNLIMITED
        yield device.refusal("bandwidth", *reason)
    elif card.bandwidth is not None:
        for way in ("inbound", "outbound"):
            if getattr(card.bandwidth, way) is not None and way not in flows_of(card):
                hint = f"write {way}'s average, in kilobytes per second"
                yield device.mistake(f"bandwidth.{way}", "a limit needs an average", hint)
    meaningful = meaningful_fields(card, virtio=virtio) | {"bandwidth"}
    yield from refuse_others(device, meaningful | VIRTIO, f"a card of type '{card.type}'")
    yield from refuse_others(device, meaningful, f"a card of model '{model}'")
    yield from check_address(device, *(("usb",) if model in USB_MODELS else ("pci", "virtio-mmio")))
    if virtio and (card.queues or 1) > 1 and not (card.has_tap or card.type == "vhostuser"):
        yield device.refusal(
            "queues",
            f"a card of type '{card.type}' has one queue",
            "leave the number of queues out, or give the card a tap",
        )
    yield from _check_rom(device, model, context)


def _check_rom(device: Named[Card], model: str, context: Context) -> Iterator[Unsupported]:
    card = device.value
    on_pci = model not in USB_MODELS and (context.has_pci or not model.startswith("virtio"))
    for field in ROM:
        if getattr(card, field) is not None and not on_pci:
            yield device.mistake(
                field, "it is for PCI cards only", "leave it out, or choose a card on PCI"
            )
    if card.rom_file and not card.rom_file.startswith("/"):
        yield device.mistake("rom-file", "it has to be an absolute path", "write it from / on")
    if card.rom is False and (card.rom_bar is not None or card.rom_file is not None):
        yield device.mistake(
            "rom",
            "the ROM is disabled and described at the same time",
            "leave out the file of the ROM, or switch the ROM on",
        )


def _slot_of(model: str) -> Slot:
    if model in USB_MODELS:
        return Slot.USB
    return Slot.EXPRESS if model in EXPRESS_MODELS else Slot.CONVENTIONAL


def _rom(card: Card) -> dict[str, object]:
    if all(getattr(card, field) is None for field in ROM):
        return {}
    return {
        "rombar": None if card.rom_bar is None else int(card.rom_bar),
        "romfile": "" if card.rom is False else card.rom_file,
    }


def _virtio(device: Named[Card], context: Context) -> dict[str, object]:
    card = device.value
    return {
        "tx": TX_MODES[card.txmode] if card.txmode else None,
        **{name: getattr(card, name) for name in OFFLOADS},
        **steering_properties(
            context.plans[device.id],
            has_vectors=context.has_pci,
            has_reports=card.rss_hash_report,
            set_fds=(context.fd(name) for name in set_names(device.id)),
        ),
        "host_mtu": card.mtu,
        "failover": True if card.teaming else None,
        **virtio_properties(card),
    }


def _check_virtio(device: Named[Card], context: Context) -> Iterator[Unsupported]:
    known = context.capabilities
    if device.value.rss_hash_report and "hash" not in known.card_properties:
        yield device.refusal(
            "rss-hash-report",
            f"the virtio-net of '{known.qemu}' (QEMU {known.version_text}) reports no hashes",
            "leave it out, or use a QEMU that has it",
        )
