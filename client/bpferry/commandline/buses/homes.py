# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which places belong to which kind of device, if no kind is to move another.

Cards, disks and devices of the host can be unplugged, so each has a place of its own: a root port
with PCI Express, otherwise a slot. Root ports come in levels of eight, and a level is always
complete, whether all of its ports are needed or not: the guest numbers its buses in the order of
the ports, so one more port would move all that follow. On a pc, the first level is on the root
bus, and each further one behind a bridge of its own.

Each other kind has a slot of the root bus, and its devices are the functions of that slot.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from bpferry.commandline.buses.pci import SLOTS, Place
from bpferry.commandline.buses.topology import is_bridge
from bpferry.commandline.parts import Device, Slot
from bpferry.domain.model.machine import Machine
from bpferry.domain.remaining import numbered


class Row(Struct, frozen=True):
    """The places of one kind in a level."""

    first: int
    count: int


ROWS: Final = {"cards": Row(0, 3), "disks": Row(3, 3), "host-devices": Row(6, 2)}
"""Of a level of eight: its root ports, or the slots of a pc's root bus from ROOT_SLOT on."""

ROOT_SLOT: Final = 3

BRIDGE_ROWS: Final = {"cards": Row(1, 12), "disks": Row(13, 12), "host-devices": Row(25, 7)}
"""Slots of a pc's further levels, each behind a bridge."""

LEVEL_SLOTS: Final = {True: tuple(range(0x02, 0x08)), False: (0x1E, 0x1F)}
"""Slots of the root bus for levels: for their ports with PCI Express, else for their bridges."""

OWN_SLOT: Final = {
    "filesystems": 0x0B, "scsi": 0x0C, "sata": 0x0D, "virtio-serial": 0x0E, "usb": 0x0F,
    "balloon": 0x10, "rngs": 0x11, "vsock": 0x12, "inputs": 0x13, "memory-devices": 0x14,
    "shared-memories": 0x15, "serials": 0x16, "watchdogs": 0x17, "cryptos": 0x18, "panics": 0x19,
    "iommu": 0x1A, "sounds": 0x1B, "pstore": 0x1C, "usb2": 0x1D,
}  # fmt: skip
"""The slot of each kind; those of sound and of USB 2 are Intel's."""

WITH_EXPRESS: Final = {"videos": 0x01, "cards": 0x08, "disks": 0x09, **OWN_SLOT}
"""Cards and disks here are conventional PCI devices, which need no port."""

WITHOUT_EXPRESS: Final = {"videos": 0x02, **OWN_SLOT}


def kind_of(device: Device, machine: Machine) -> str:
    """Return the kind of *device*, which is its family; of a controller, what it controls."""
    if device.family == "controllers":
        return "usb2" if device.group else dict(numbered(machine.controllers))[device.number].type
    return "videos" if device.family == "graphics" else device.family


def has_level(device: Device, *, express: bool) -> bool:
    """Say whether *device* is placed by levels."""
    if device.family not in ROWS or is_bridge(device):
        return False
    return device.slot is Slot.EXPRESS or not express


def levels_for(devices: Iterable[Device], *, express: bool) -> int:
    """Return how many levels *devices* need, at least one."""
    leveled = [device.family for device in devices if has_level(device, express=express)]
    return max(
        _level_of(kind, max(0, leveled.count(kind) - 1), express=express) + 1 for kind in ROWS
    )


def _level_of(kind: str, rank: int, *, express: bool) -> int:
    if express:
        return rank // ROWS[kind].count
    beyond = rank - ROWS[kind].count
    return 0 if beyond < 0 else 1 + beyond // BRIDGE_ROWS[kind].count


def place_in_level(
    kind: str, rank: int, levels: Sequence[Sequence[int]], *, express: bool
) -> Place | None:
    """Return where the device number *rank* of a kind is, on the buses of *levels*.

    A level has eight buses with PCI Express, each behind a port, and otherwise one.
    """
    level, row = _level_of(kind, rank, express=express), ROWS[kind]
    if level >= len(levels):
        return None
    if express:
        return Place(levels[level][row.first + rank % row.count], 0)
    if level == 0:
        return Place(0, ROOT_SLOT + row.first + rank)
    behind = BRIDGE_ROWS[kind]
    return Place(levels[level][0], behind.first + (rank - row.count) % behind.count)


def slots_for_others(*, express: bool) -> tuple[int, ...]:
    """Return the slots of the root bus in the order in which they go to devices without a place.

    Slots that belong to no kind come first, and those that are needed most come last.
    """
    own = (WITH_EXPRESS if express else WITHOUT_EXPRESS).values()
    levels = LEVEL_SLOTS[express]
    if not express:
        levels = (*range(ROOT_SLOT, ROOT_SLOT + sum(row.count for row in ROWS.values())), *levels)
    free = [slot for slot in range(1, SLOTS) if slot not in own and slot not in levels]
    return (*free, *sorted(own, reverse=True), *reversed(levels))
