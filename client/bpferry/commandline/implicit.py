# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a document means without saying it: the controllers that its devices need, and the like.

What comes from here is what libvirt would add (src/qemu/qemu_postparse.c), and stands behind all
that the document has, so that the keys of the document's own things stay what they are.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from bpferry.commandline.buses.drive_addresses import drive_of, place_drives
from bpferry.commandline.buses.usb_controllers import COMPANIONS, GROUP, default_model
from bpferry.commandline.buses.virtio_ports import controllers_needed
from bpferry.commandline.context import unsupported
from bpferry.domain.model.controllers import Controller
from bpferry.domain.model.disks import Disk
from bpferry.domain.model.extras import Balloon
from bpferry.domain.model.machine import Machine

WITH_USB: Final = ("pc", "q35")
"""Families of machines that have a USB controller unless the document says that there is none."""

WITH_BALLOON: Final = ("pc", "q35")

DISK_CONTROLLERS: Final = ("scsi", "sata")
"""Those of IDE disks and floppies are a part of the machine, or there is none."""


def complete(machine: Machine, family: str) -> Machine:
    """Return *machine* with what its devices need on a machine type of *family*.

    Raises:
        Unsupported: a device has a place that cannot be.
    """
    disks = place_drives(machine)
    controllers = number_controllers(machine.controllers)
    controllers += tuple(_missing(machine, disks, controllers, family))
    balloon = machine.balloon
    if balloon is None and family in WITH_BALLOON:
        balloon = Balloon(model="virtio")
    return msgspec.structs.replace(machine, disks=disks, controllers=controllers, balloon=balloon)


def number_controllers(controllers: Sequence[Controller]) -> tuple[Controller, ...]:
    """Return *controllers* with an index each: the next that is free, of its type.

    A companion of USB 2 belongs to the group before it, as long as that one lacks it.
    """
    numbered = list(controllers)
    for place, controller in enumerate(numbered):
        first_port = controller.first_port
        if first_port is None and controller.type == "usb":
            first_port = COMPANIONS.get(controller.model or "")
        index = controller.index
        if index is None:
            index = _next_index(controller, numbered, place)
        numbered[place] = msgspec.structs.replace(controller, index=index, first_port=first_port)
    return tuple(numbered)


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
    machine: Machine, disks: Sequence[Disk], controllers: Sequence[Controller], family: str
) -> Iterator[Controller]:
    """Yield the controllers that devices need and that are not there."""
    have = {(controller.type, controller.index) for controller in controllers}
    for kind in DISK_CONTROLLERS:
        used = [drive_of(disk).controller for disk in disks if disk.bus == kind]
        for index in range(max(used, default=-1) + 1):
            if (kind, index) not in have:
                yield Controller(type=kind, index=index)
    for index in controllers_needed(machine):
        if ("virtio-serial", index) not in have:
            yield Controller(type="virtio-serial", index=index)
    if machine.smart_cards and ("ccid", 0) not in have:
        yield Controller(type="ccid", index=0)
    yield from _usb(machine, disks, controllers, family)


def _usb(
    machine: Machine, disks: Sequence[Disk], controllers: Sequence[Controller], family: str
) -> Iterator[Controller]:
    buses = {one.index for one in controllers if one.type == "usb" and one.model != "none"}
    none = any(one.type == "usb" and one.model == "none" for one in controllers)
    needed = _first_usb_device(machine, disks)
    if none and needed is not None:
        raise unsupported(needed, "it needs a USB controller, and the document says 'none'")
    if none or 0 in buses:
        return
    if family in WITH_USB or (needed is not None and family == "virt"):
        yield Controller(type="usb", index=0, model=default_model(family))


def _first_usb_device(machine: Machine, disks: Sequence[Disk]) -> str | None:
    """Return the key of the first device that is on USB."""
    families = {
        "disks": disks,
        "inputs": machine.inputs,
        "redirected-devices": machine.redirected_devices,
        "hubs": machine.hubs,
        "smart-cards": machine.smart_cards,
        "filesystems": machine.filesystems,
    }
    for name, devices in families.items():
        for index, device in enumerate(devices):
            bus = "usb" if name in ("hubs", "smart-cards") else getattr(device, "bus", None)
            if bus == "usb":
                return f"{name}[{index}]"
    return None
