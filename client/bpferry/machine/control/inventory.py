# SPDX-License-Identifier: LGPL-2.1-or-later
"""The cards and disks of a running VM, as its user is shown them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bpferry.domain.names import Named, cards_of, listed
from bpferry.domain.remaining import total_of
from bpferry.machine.control.life import RunningVm
from bpferry.machine.control.packets import without_none
from bpferry.network.sysfs import count_queues
from bpferry.steering.view import describe

if TYPE_CHECKING:
    from bpferry.domain.model.cards import Card
    from bpferry.domain.model.disks import Disk


def cards(vm: RunningVm) -> list[Mapping[str, object]]:
    """Return all cards."""
    return [card_fields(vm, device) for device in cards_of(vm.machine)]


def card_fields(vm: RunningVm, device: "Named[Card]") -> Mapping[str, object]:
    """Return what is known of one card."""
    prepared = vm.prepared
    plan, granted = prepared.plans[device.id], prepared.taps.get(device.id)
    seen, tap = vm.record.steering.get(device.id), tap_of(vm, device.id)
    return without_none({
        "id": device.id,
        "type": device.value.type,
        "mac": mac_of(vm, device),
        "steering": str(plan.rung),
        "vhost": plan.vhost,
        "queues": plan.queues,
        "because": "; ".join(plan.because),
        "seen": None if seen is None else describe(device.id, seen, count_queues(tap)),
        "tap": tap or None,
        "bridge": None if granted is None else granted.bridge,
        "link": device.value.link,
        "plugged": device.number >= total_of(prepared.document.machine.cards),
    })  # fmt: skip


def card_in_words(fields: Mapping[str, object]) -> str:
    """Return what *fields* say of a card, for the log."""
    place = f"tap '{fields['tap']}'" if "tap" in fields else f"type '{fields['type']}'"
    if "bridge" in fields:
        place += f" on bridge '{fields['bridge']}'"
    queues = f"{fields['queues']} queue{'' if fields['queues'] == 1 else 's'}"
    vhost = ", vhost" if fields.get("vhost") else ""
    steering = f"steering: {fields['steering']} ({fields['because']})"
    return f"{fields['mac']}, {place}, {queues}{vhost}; {steering}"


def tap_of(vm: RunningVm, card_id: str) -> str:
    """Return the name of the tap or macvtap behind the card *card_id*; empty if it has none."""
    granted = vm.prepared.taps.get(card_id)
    if granted is not None:
        return granted.interface
    named = (device.value.tap for device in cards_of(vm.machine) if device.id == card_id)
    return next(named, None) or ""


def mac_of(vm: RunningVm, device: "Named[Card]") -> str:
    """Return the address of a card."""
    return vm.prepared.draft.mac_of(device)


def disks(vm: RunningVm) -> list[Mapping[str, object]]:
    """Return all disks."""
    return [disk_fields(vm, device) for device in listed(vm.machine.disks, "disks")]


def disk_fields(vm: RunningVm, device: "Named[Disk]") -> Mapping[str, object]:
    """Return what is known of one disk."""
    disk = device.value
    return without_none({
        "target": disk.target,
        "device": disk.device,
        "file": disk.file,
        "plugged": device.number >= total_of(vm.prepared.document.machine.disks),
    })  # fmt: skip
