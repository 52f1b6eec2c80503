# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a document implies: the controllers that its devices need, and so on.

This adds what libvirt would add (src/qemu/qemu_postparse.c), after everything that the document
has, so that the keys of the document's own things stay the same.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bpferry.commandline.attempt import settle_section
from bpferry.commandline.buses.drive_addresses import drive_of, place_drives
from bpferry.commandline.buses.usb_controllers import COMPANIONS, GROUP, default_model
from bpferry.commandline.buses.virtio_ports import controllers_needed, virtio_places
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Refusal
from bpferry.domain.model.balloon import Balloon
from bpferry.domain.model.controllers import Controller
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import Named, listed
from bpferry.domain.remaining import Remaining, extended, replaced, total_of
from bpferry.errors import Unsupported

if TYPE_CHECKING:
    from bpferry.domain.model.disks import Disk

WITH_USB: Final = ("pc", "q35")
"""Families of machines that have a USB controller unless the document says that there is none."""

WITH_BALLOON: Final = ("pc", "q35")

DISK_CONTROLLERS: Final[tuple[Literal["sata", "scsi"], ...]] = ("sata", "scsi")
"""Controllers of IDE disks and floppies are part of the machine, or do not exist."""


class Completed(Struct, frozen=True):
    """A VM with what its devices need."""

    machine: Machine
    refusals: tuple[Refusal, ...]
    """Impossible places of devices; the devices are in the VM without them, or not at all."""


def complete(bare: Context) -> Completed:
    """Return the VM of *bare* with what its devices need on its machine type."""
    machine, refusals = _with_places(bare)
    controllers = number_controllers(machine.controllers)
    missing = tuple(_missing(machine, controllers, bare.family))
    balloon = machine.balloon
    if balloon is None and bare.family in WITH_BALLOON:
        balloon = Balloon(model="virtio")
    whole = msgspec.structs.replace(
        machine, controllers=extended(controllers, missing), balloon=balloon
    )
    return Completed(whole, tuple(refusals))


def _with_places(bare: Context) -> tuple[Machine, list[Refusal]]:
    """Return the machine with places for its drives, without addresses that cannot be kept."""
    refusals: list[Refusal] = []
    disks: list[tuple[int, Disk]] = []
    for found in place_drives(bare):
        if isinstance(found, Refusal):
            refusals.append(found)
        else:
            disks.append((found.number, found.value))
    total = total_of(bare.machine.disks)
    machine = msgspec.structs.replace(bare.machine, disks=Remaining(disks, total))
    for one in settle_section(_check_places, replace(bare, machine=machine)):
        if isinstance(one, Refusal):
            refusals.append(one)
        else:
            machine = one
    return machine, refusals


def _check_places(context: Context) -> Iterator[Machine | Unsupported]:
    """Yield the machine if its devices can have their places, and what is refused of them."""
    machine = context.machine
    if any(one.type == "usb" and one.model == "none" for one in machine.controllers):
        for device in _usb_devices(machine):
            yield device.mistake(
                "",
                "it needs a USB controller, and the document says 'none'",
                "remove the device, or the controller with 'none'",
            )
    elif context.family not in (*WITH_USB, "virt") and not _has_usb(machine):
        # Other devices are found when they get a port; a reader that is implied has no place.
        for card in listed(machine.smart_cards, "smart-cards"):
            sentence = f"the machine '{context.machine_type}' has no USB for its reader"
            yield card.mistake("", sentence, "add a USB controller")
    virtio_places(machine)
    yield machine


def _has_usb(machine: Machine) -> bool:
    return any(one.type == "usb" for one in machine.controllers)


def number_controllers(controllers: Sequence[Controller]) -> tuple[Controller, ...]:
    """Return *controllers* with an index each: the next that is free, of its type.

    A companion of USB 2 belongs to the group before it, as long as that one lacks it.
    """
    having = list(controllers)
    for place, controller in enumerate(having):
        first_port = controller.first_port
        if first_port is None and controller.type == "usb":
            first_port = COMPANIONS.get(controller.model or "")
        index = controller.index
        if index is None:
            index = _next_index(controller, having, place)
        having[place] = msgspec.structs.replace(controller, index=index, first_port=first_port)
    return replaced(controllers, having)


def _next_index(controller: Controller, numbered: Sequence[Controller], place: int) -> int:
    same = [one for one in numbered if one.type == controller.type and one is not controller]
    before = [one for one in numbered[:place] if one.type == controller.type]
    if controller.type == "usb" and controller.model in GROUP and before:
        last = before[-1]
        group = {one.model for one in before if one.index == last.index}
        if last.model in GROUP and controller.model not in group and last.index is not None:
            return last.index
    used = {one.index for one in same}
    return next(number for number in range(len(numbered) + 1) if number not in used)


def _missing(
    machine: Machine, controllers: Sequence[Controller], family: str
) -> Iterator[Controller]:
    """Yield the controllers that devices need and that are not there, in libvirt's order."""
    have = {(controller.type, controller.index) for controller in controllers}
    yield from _usb(machine, controllers, family)
    # On q35, the first SATA controller is part of the machine, and the others follow it.
    for kind in sorted(DISK_CONTROLLERS, reverse=family != "q35"):
        used = [drive_of(disk).controller for disk in machine.disks if disk.bus == kind]
        for index in range(max(used, default=-1) + 1):
            if (kind, index) not in have:
                yield Controller(type=kind, index=index)
    for index in controllers_needed(machine):
        if ("virtio-serial", index) not in have:
            yield Controller(type="virtio-serial", index=index)
    if machine.smart_cards and ("ccid", 0) not in have:
        yield Controller(type="ccid", index=0)


def _usb(machine: Machine, controllers: Sequence[Controller], family: str) -> Iterator[Controller]:
    buses = {one.index for one in controllers if one.type == "usb" and one.model != "none"}
    none = any(one.type == "usb" and one.model == "none" for one in controllers)
    if none or 0 in buses:
        return
    if family in WITH_USB or (family == "virt" and any(_usb_devices(machine))):
        yield Controller(type="usb", index=0, model=default_model(family))


def _usb_devices(machine: Machine) -> Iterator[Named[object]]:
    """Yield the devices that are on USB."""
    families: dict[str, Sequence[object]] = {
        "disks": machine.disks,
        "inputs": machine.inputs,
        "redirected-devices": machine.redirected_devices,
        "hubs": machine.hubs,
        "smart-cards": machine.smart_cards,
        "filesystems": machine.filesystems,
        "host-devices": machine.host_devices,
    }
    for name, devices in families.items():
        # A device of the host says it by its type.
        bus = "type" if name == "host-devices" else "bus"
        for device in listed(devices, name):
            if name in ("hubs", "smart-cards") or getattr(device.value, bus, None) == "usb":
                yield device
