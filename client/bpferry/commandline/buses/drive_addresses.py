# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where drives sit if they do not say so: the bus, the name of the target, the place on the bus.

The rules are libvirt's (docs/formatdomain, 'target'; src/conf/domain_postparse.c): the beginning
of the target's name selects a bus, and its last letters a place on it. A description may leave
the target out as well; then it is the next free one on a bus that suits the machine.
"""

from functools import partial
from typing import TYPE_CHECKING, Final, Literal, cast

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bpferry.commandline.attempt import settle
from bpferry.commandline.context import Context
from bpferry.domain.model.base import Address
from bpferry.domain.names import Named, named

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bpferry.commandline.parts import Refusal
    from bpferry.domain.model.disks import Disk
    from bpferry.errors import Unsupported

Bus = Literal["virtio", "scsi", "sata", "ide", "usb", "fdc"]

BUSES: Final[dict[str, Bus]] = {"vd": "virtio", "sd": "scsi", "hd": "ide", "fd": "ide"}
"""The bus that the beginning of a target's name selects if the document names none."""

ADDRESS_TYPES: Final = {
    "virtio": ("pci", "virtio-mmio"), "usb": ("usb",), "scsi": ("drive",), "sata": ("drive",),
    "ide": ("drive",), "fdc": ("drive",),
}  # fmt: skip


class Drive(Struct, frozen=True):
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


def place_drives(context: Context) -> "Iterator[Named[Disk] | Refusal]":
    """Yield the disks with target, bus and, if they have controllers, address.

    Places that do not exist, or that two disks have, are refused.
    """
    placed: list[Named[Disk]] = []
    for device in named(context.machine.disks, "disks", "disk"):
        for found in settle(partial(_place, placed), device, context):
            if isinstance(found, Named):
                placed.append(found)
            yield found


def drive_of(disk: "Disk") -> Drive:
    """Return the place of *disk*, which has one."""
    where = disk.address or Address(type="drive")
    return Drive(where.controller or 0, where.bus or 0, where.target or 0, where.unit or 0)


def index_of(target: str) -> int:
    """Return the number that a target's name ends in, counted as a, b, ..., z, aa, ab."""
    number = 0
    for letter in target[2:]:
        number = number * 26 + ord(letter) - ord("a") + 1
    return number - 1


def _bus_of(disk: "Disk") -> Bus:
    if disk.bus is not None:
        return disk.bus
    return "fdc" if disk.device == "floppy" else BUSES[disk.target[:2]]


def _place(
    earlier: "Sequence[Named[Disk]]", device: "Named[Disk]", _: Context
) -> "Iterator[Named[Disk] | Unsupported]":
    bus = _bus_of(device.value)
    address = _address_of(device, bus)
    disk = msgspec.structs.replace(device.value, bus=bus, address=address)
    for other in (one.value for one in earlier):
        if disk.target == other.target:
            yield device.mistake(
                "target",
                f"another disk is '{disk.target}' already",
                "give each disk a target of its own",
            )
        elif bus in MAXIMA and (bus, drive_of(disk)) == (other.bus, drive_of(other)):
            yield device.mistake(
                "",
                f"the disk '{other.target}' has the same place on {bus}",
                "give it another target or address",
            )
    yield replace(device, value=disk)


def _address_of(device: "Named[Disk]", bus: Bus) -> Address | None:
    where = device.value.address
    if where is not None and where.type not in ADDRESS_TYPES[bus]:
        raise device.mistake(
            "address",
            f"a disk on {bus} has no address of type {where.type}",
            "leave the address out: the disk gets one",
        )
    if bus not in MAXIMA:
        return where
    if where is None:
        place = _chosen(bus, index_of(device.value.target))
    else:
        place = _given(device.part("address", where))
    problem = _find_problem(place, bus)
    if problem:
        raise device.refusal(
            "address" if where else "target",
            problem,
            "give it another one, or leave it out: the disk gets a free place",
        )
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


def _given(address: Named[Address]) -> Drive:
    where = address.value
    for field in where.__struct_fields__:
        if field not in ("type", "controller", "bus", "target", "unit"):
            value = cast("object", getattr(where, field))
            if value is not None:
                raise address.mistake(
                    field, f"the address of a drive has no {field}", f"leave out {field}"
                )
    return Drive(where.controller or 0, where.bus or 0, where.target or 0, where.unit or 0)


def _find_problem(place: Drive, bus: Bus) -> str:
    """Return why there is no such *place*; empty if there is one."""
    last = MAXIMA[bus]
    for field in ("controller", "bus", "target", "unit"):
        value, highest = getattr(place, field), getattr(last, field)
        if not 0 <= value <= highest:
            return f"there is no {field} {value} on {bus}; the last is {highest}"
    return ""
