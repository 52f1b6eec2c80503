# SPDX-License-Identifier: LGPL-2.1-or-later
"""The devices of disks: which driver, with which properties, on which bus.

Whatever a document asks for that the driver has no property for is refused.
"""

from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from bpferry.commandline.buses.controller_ids import (
    bus_of,
    find_controller,
    scsi_model,
)
from bpferry.commandline.buses.drive_addresses import drive_of, index_of
from bpferry.commandline.context import Context, virtio_properties
from bpferry.commandline.parts import Slot, on_off, virtio_slot
from bpferry.commandline.storage.blockdev import cache_of
from bpferry.commandline.threads import queue_mapping, thread_of
from bpferry.domain.model.disks import Disk
from bpferry.domain.names import Named, chosen, named

WRITE_BACK: Final = {"none": True, "writeback": True, "unsafe": True}
"""Modes in which the guest sees a cache that it has to flush; in the others it sees no cache."""

SCSI_ID_ONLY: Final = frozenset({"lsilogic", "am53c974", "dc390"})
"""Controllers of narrow SCSI, on which a disk is found by one number."""

FIELDS: Final = {
    "werror": "error-policy", "rerror": "read-error-policy", "cyls": "geometry",
    "heads": "geometry", "secs": "geometry", "bios-chs-trans": "geometry.translation",
    "num-queues": "queues", "queue-size": "queue-size", "event_idx": "event-index",
    "iothread-vq-mapping": "iothreads", "share-rw": "shareable", "write-cache": "cache",
    "model": "product", "iommu_platform": "iommu",
}  # fmt: skip
"""The key of the model for a property that has another name there."""

BLOCK: Final = frozenset(
    {"logical_block_size", "physical_block_size", "discard_granularity", "share-rw", "write-cache"}
)
ERRORS: Final = frozenset({"werror", "rerror"})
CHS: Final = frozenset({"cyls", "heads", "secs"})
VIRTIO: Final = frozenset(
    {"iommu_platform", "ats", "packed", "page-per-vq", "num-queues", "queue-size", "event_idx"}
)
SCSI: Final = BLOCK | ERRORS | {"serial", "wwn", "vendor", "product"}

PROPERTIES: Final = {
    "ide-hd": BLOCK | ERRORS | CHS | {"serial", "wwn", "model", "rotation_rate", "bios-chs-trans"},
    "ide-cd": BLOCK | ERRORS | {"serial", "wwn", "model"},
    "scsi-hd": SCSI | CHS | {"removable", "rotation_rate"},
    "scsi-cd": SCSI,
    "scsi-block": ERRORS | {"share-rw"},
    "usb-storage": BLOCK | ERRORS | {"serial", "removable"},
    "floppy": BLOCK,
    "virtio-blk": BLOCK | ERRORS | CHS | VIRTIO
    | {"serial", "ioeventfd", "iothread", "iothread-vq-mapping"},
    "vhost-user-blk": VIRTIO,
}  # fmt: skip
"""What each driver takes of all that a disk can ask for (``-device DRIVER,help``, QEMU 10.0)."""


def disks_of(context: Context) -> Iterator[Named[Disk]]:
    """Yield the disks of the VM, which have their places."""
    for device in named(context.machine.disks, "disks", "disk"):
        yield replace(device, id=drive_id(device.value, context))


def drive_id(disk: Disk, context: Context) -> str:
    """Return the id of the device of *disk*: as libvirt's, or the user's own."""
    alias = chosen(disk)
    if alias is not None:
        return alias
    place = drive_of(disk)
    if disk.bus in ("virtio", "usb"):
        return f"{disk.bus}-disk{index_of(str(disk.target))}"
    numbers = [place.controller, place.bus, place.target, place.unit]
    if disk.bus != "scsi" or scsi_model_of(disk, context) in SCSI_ID_ONLY:
        del numbers[2]
    return f"{disk.bus}{'-'.join(str(number) for number in numbers)}"


def driver_of(disk: Disk) -> str:
    """Return the driver for *disk*, without the ending for the transport of virtio."""
    if disk.type == "vhostuser":
        return "vhost-user-blk"
    if disk.bus == "scsi" and disk.device == "lun":
        return "scsi-block"
    drivers = {"virtio": "virtio-blk", "usb": "usb-storage", "fdc": "floppy"}
    plain = drivers.get(str(disk.bus))
    if plain:
        return plain
    return f"{'scsi' if disk.bus == 'scsi' else 'ide'}-{'cd' if disk.device == 'cdrom' else 'hd'}"


def slot_of(disk: Disk) -> Slot:
    """Return what kind of place *disk* needs."""
    if disk.bus == "virtio":
        return virtio_slot(disk.model)
    return Slot.USB if disk.bus == "usb" else Slot.NONE


def properties_of(device: Named[Disk], drive: str, context: Context) -> dict[str, object]:
    """Return all properties of the device except what it is attached to.

    Raises:
        Unsupported: the driver has no property for something that the disk asks for.
    """
    disk = device.value
    driver = driver_of(disk)
    asked = _asked(device, context)
    for name, value in asked.items():
        if value is not None and name not in PROPERTIES[driver]:
            field = FIELDS.get(name, name.replace("_", "-"))
            raise device.refusal(field, f"'{driver}' has no property '{name}'", "leave it out")
    properties = {**_place(disk, context), "drive": drive or None}
    if driver == "usb-storage":
        # This is QEMU's default; libvirt writes it out, so that it stays if QEMU's default changes.
        properties["removable"] = False
    return properties | {name: value for name, value in asked.items() if value is not None}


def _asked(device: Named[Disk], context: Context) -> dict[str, object]:
    disk = device.value
    cache = None if disk.device == "lun" else cache_of(disk)
    geometry = disk.geometry
    return {
        **_virtio(device, context),
        "share-rw": disk.shareable or None,
        "logical_block_size": disk.logical_block_size,
        "physical_block_size": disk.physical_block_size,
        "discard_granularity": disk.discard_granularity,
        "wwn": None if disk.wwn is None else int(disk.wwn, 16),
        "rotation_rate": disk.rotation_rate,
        "vendor": disk.vendor,
        "model" if disk.bus in ("ide", "sata") else "product": disk.product,
        "removable": disk.removable,
        "write-cache": on_off(WRITE_BACK.get(cache, False)) if cache else None,
        "cyls": geometry.cylinders if geometry else None,
        "heads": geometry.heads if geometry else None,
        "secs": geometry.sectors if geometry else None,
        "bios-chs-trans": geometry.translation if geometry else None,
        "serial": disk.serial,
        **_policies(device),
    }


def _virtio(device: Named[Disk], context: Context) -> dict[str, object]:
    disk = device.value
    return {
        **virtio_properties(disk),
        "ioeventfd": disk.ioeventfd,
        "event_idx": disk.event_index,
        "num-queues": disk.queues,
        "queue-size": disk.queue_size,
        "iothread": thread_of(device, context),
        "iothread-vq-mapping": queue_mapping(device, context),
    }


def _policies(device: Named[Disk]) -> dict[str, object]:
    """Return what happens when writing and reading fail; by default the same, where possible."""
    disk = device.value
    if disk.device == "floppy" and (disk.error_policy or disk.read_error_policy):
        raise device.refusal(
            "error-policy",
            "a floppy drive always reports errors",
            "leave it out, or write 'report'",
        )
    writing = "enospc" if disk.error_policy == "enospace" else disk.error_policy
    reading = disk.read_error_policy or (None if writing == "enospc" else writing)
    return {"werror": writing, "rerror": reading}


def _place(disk: Disk, context: Context) -> dict[str, object]:
    """Return the bus of a drive that sits on a controller."""
    place = drive_of(disk)
    if disk.bus == "ide":
        return {"bus": f"ide.{place.bus}", "unit": place.unit}
    if disk.bus == "fdc":
        return {"unit": place.unit}
    if disk.bus == "sata":
        builtin = context.family == "q35" and place.controller == 0
        name = "ide" if builtin else bus_of(context.machine, "sata", place.controller)
        return {"bus": f"{name}.{place.unit}"}
    if disk.bus != "scsi":
        return {}
    bus = f"{bus_of(context.machine, 'scsi', place.controller)}.0"
    # What the guest sees on the page of identifications (SPC-4, 7.8.6).
    shown = disk.serial or f"drive-{drive_id(disk, context)}"
    visible = {} if disk.device == "lun" else {"device_id": shown}
    if scsi_model_of(disk, context) in SCSI_ID_ONLY:
        return {"bus": bus, "scsi-id": place.unit, **visible}
    numbers = {"channel": place.bus, "scsi-id": place.target, "lun": place.unit}
    return {"bus": bus, **numbers, **visible}


def scsi_model_of(disk: Disk, context: Context) -> str:
    """Return the model of the SCSI controller that *disk* sits on."""
    found = find_controller(context.machine, "scsi", drive_of(disk).controller)
    return scsi_model(found, context.capabilities)
