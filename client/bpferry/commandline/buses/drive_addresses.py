# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where drives sit that do not say so: the bus, the name of the target, and the place on the bus.

The rules are libvirt's (docs/formatdomain, 'target'; src/conf/domain_postparse.c): the beginning
of the target's name stands for a bus, and its last letters for a place there. A description may
leave the target out as well; then it is the next that is free on a bus that suits the machine.
"""

from dataclasses import dataclass
from typing import Final, Literal, cast

import msgspec

from bpferry.commandline.context import unsupported
from bpferry.domain.model.base import Address
from bpferry.domain.model.disks import Disk
from bpferry.domain.model.machine import Machine

Bus = Literal["virtio", "scsi", "sata", "ide", "usb", "fdc"]

BUSES: Final[dict[str, Bus]] = {"vd": "virtio", "sd": "scsi", "hd": "ide", "fd": "ide"}
"""What the beginning of a target's name stands for, where nothing else is said."""

ADDRESS_TYPES: Final = {
    "virtio": ("pci", "virtio-mmio"), "usb": ("usb",), "scsi": ("drive",), "sata": ("drive",),
    "ide": ("drive",), "fdc": ("drive",),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Drive:
    """A place on a controller."""

    controller: int
    bus: int
    target: int
    unit: int


MAXIMA: Final = {
    "ide": Drive(0, 1, 0, 1),
    "sata": Drive(255, 0, 0, 5),
    "fdc": Drive(0, 0, 0, 1),
    "scsi": Drive(255, 0, 255, 16383),
}
"""The last place on each bus (hw/ide, hw/block/fdc.c, hw/scsi/virtio-scsi.c)."""


def place_drives(machine: Machine) -> tuple[Disk, ...]:
    """Return the disks of *machine* with target, bus and, where they have controllers, address.

    Raises:
        Unsupported: a place that is not there, or that two disks have.
    """
    placed = [
        _placed(msgspec.structs.replace(disk, bus=_bus_of(disk)), f"disks[{index}]")
        for index, disk in enumerate(machine.disks)
    ]
    _check_unique(placed)
    return tuple(placed)


def drive_of(disk: Disk) -> Drive:
    """Return the place of *disk*, which has one."""
    where = disk.address or Address(type="drive")
    return Drive(where.controller or 0, where.bus or 0, where.target or 0, where.unit or 0)


def index_of(target: str) -> int:
    """Return the number that a target's name ends in, counted as a, b, ..., z, aa, ab."""
    number = 0
    for letter in target[2:]:
        number = number * 26 + ord(letter) - ord("a") + 1
    return number - 1


def _bus_of(disk: Disk) -> Bus:
    if disk.bus is not None:
        return disk.bus
    return "fdc" if disk.device == "floppy" else BUSES[disk.target[:2]]


def _placed(disk: Disk, key: str) -> Disk:
    return msgspec.structs.replace(disk, address=_address_of(disk, key))


def _address_of(disk: Disk, key: str) -> Address | None:
    bus, target, where = disk.bus, disk.target, disk.address
    assert bus is not None  # noqa: S101 - place_drives() gave it
    if where is not None and where.type not in ADDRESS_TYPES[bus]:
        raise unsupported(f"{key}.address", f"a disk on {bus} has no address of type {where.type}")
    if bus not in MAXIMA:
        return where
    place = _chosen(bus, index_of(target)) if where is None else _given(where, f"{key}.address")
    _check_bounds(place, bus, f"{key}.address" if where else f"{key}.target")
    return Address(
        type="drive",
        controller=place.controller,
        bus=place.bus,
        target=place.target,
        unit=place.unit,
    )


def _chosen(bus: Bus, number: int) -> Drive:
    """Return libvirt's place for the disk *number* of a bus."""
    if bus == "ide":
        return Drive(number // 4, number % 4 // 2, 0, number % 2)
    per_controller = {"sata": 6, "fdc": 2, "scsi": 7}[bus]
    return Drive(number // per_controller, 0, 0, number % per_controller)


def _given(where: Address, key: str) -> Drive:
    for field in where.__struct_fields__:
        if field not in ("type", "controller", "bus", "target", "unit"):
            value = cast("object", getattr(where, field))
            if value is not None:
                raise unsupported(f"{key}.{field}", f"a drive has no {field}")
    return Drive(where.controller or 0, where.bus or 0, where.target or 0, where.unit or 0)


def _check_bounds(place: Drive, bus: Bus, key: str) -> None:
    last = MAXIMA[bus]
    for field in ("controller", "bus", "target", "unit"):
        value, highest = getattr(place, field), getattr(last, field)
        if not 0 <= value <= highest:
            raise unsupported(key, f"there is no {field} {value} on {bus}; the last is {highest}")


def _check_unique(disks: list[Disk]) -> None:
    targets: dict[str | None, int] = {}
    places: dict[tuple[str | None, Drive], int] = {}
    for index, disk in enumerate(disks):
        if targets.setdefault(disk.target, index) != index:
            raise unsupported(f"disks[{index}].target", f"another disk is '{disk.target}' already")
        place = (disk.bus, drive_of(disk))
        if disk.bus in MAXIMA and places.setdefault(place, index) != index:
            raise unsupported(
                f"disks[{index}]",
                f"the disk '{disks[places[place]].target}' has the same place on {disk.bus}",
                "give it another target or address",
            )
