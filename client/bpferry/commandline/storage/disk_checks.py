# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether the settings of a disk fit together: what QEMU would refuse, or do differently."""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.buses.drive_addresses import drive_of
from bpferry.commandline.context import Context
from bpferry.commandline.storage.blockdev import cache_of, has_medium, is_read_only
from bpferry.commandline.storage.drives import SCSI_ID_ONLY, driver_of, scsi_model_of
from bpferry.domain.model.disks import Disk
from bpferry.domain.model.images import BackingImage
from bpferry.domain.names import Named
from bpferry.domain.shown import any_of
from bpferry.errors import Unsupported

BUSES: Final = {
    "disk": ("virtio", "scsi", "sata", "ide", "usb"),
    "cdrom": ("scsi", "sata", "ide", "usb"),
    "lun": ("scsi",),
    "floppy": ("fdc",),
}
"""Where each kind of drive can sit."""

MEDIUM: Final = ("copy_on_read", "throttle", "throttle_groups", "slice", "data_file")
"""Settings that an empty drive cannot have; how a medium is read may be set beforehand."""

LAST_NARROW_ID: Final = 6
"""The highest number of a disk; 7 is the controller's own (SCSI-2, 5.1)."""


OTHER_BUS: Final = {
    "ide": "write 'sata' or 'virtio', or choose the machine type 'pc'",
    "fdc": "choose the machine type 'pc' or 'q35'",
    "sata": "write 'virtio', or choose the machine type 'q35'",
    "scsi": "write 'virtio', or choose the machine type 'q35'",
}
"""What to do where a machine lacks the controller of a bus."""


def check_disk(device: Named[Disk], context: Context) -> Iterator[Unsupported]:
    """Refuse settings of the disk *device* that do not fit together."""
    yield from _place(device, context)
    yield from _scsi(device, context)
    yield from _medium(device)
    yield from _modes(device)
    yield from _driver(device, context)


def _place(device: Named[Disk], context: Context) -> Iterator[Unsupported]:
    disk, machine = device.value, context.machine_type
    if disk.bus not in BUSES[disk.device]:
        possible = any_of(map(str, BUSES[disk.device]))
        yield device.refusal("bus", f"QEMU has no {disk.device} on {disk.bus}", f"write {possible}")
    if disk.model is not None and disk.bus != "virtio":
        hint = "leave the model out, or write the bus 'virtio'"
        yield device.mistake("model", f"a disk on {disk.bus} has no model", hint)
    if disk.model not in (None, "virtio") and not context.has_pci:
        why = f"the machine '{machine}' has no PCI bus, so the only model is virtio"
        yield device.refusal("model", why, "write 'virtio', or leave the model out")
    lacks = ""
    if disk.bus == "ide" and context.family not in ("pc", "isapc"):
        lacks = "IDE controller"
    elif disk.bus == "fdc" and context.family not in ("pc", "isapc", "q35"):
        lacks = "floppy controller"
    elif disk.bus in ("sata", "scsi") and not context.has_pci:
        lacks = "PCI bus for its controller"
    if lacks:
        hint = OTHER_BUS[disk.bus or ""]
        yield device.refusal("bus", f"the machine '{machine}' has no {lacks}", hint)


def _scsi(device: Named[Disk], context: Context) -> Iterator[Unsupported]:
    disk, place = device.value, drive_of(device.value)
    if disk.bus != "scsi" or scsi_model_of(disk, context) not in SCSI_ID_ONLY:
        return
    if place.target:
        why = "a disk of this controller is addressed by its unit only"
        yield device.refusal("address.target", why, "write the number as the unit")
    if place.unit > LAST_NARROW_ID:
        why = f"this controller has the units 0 to {LAST_NARROW_ID}"
        hint = "write one of them, or choose the controller's model 'virtio-scsi'"
        yield device.refusal("address", why, hint)


def _medium(device: Named[Disk]) -> Iterator[Unsupported]:
    disk = device.value
    if disk.type == "vhostuser" or has_medium(disk):
        return
    if disk.device not in ("cdrom", "floppy"):
        why = "a disk needs a source: a file, a block device or a server"
        yield device.mistake("device", why, "name the source, or write 'cdrom' for an empty drive")
    if disk.bus == "usb":
        yield device.refusal("bus", "a drive on usb cannot be empty", "write 'sata' or 'scsi'")
    if disk.backing is not None and disk.backing != BackingImage():
        why = "the drive is empty, so there is no backing image"
        yield device.mistake("backing", why, "leave the backing image out, or name the image")
    for field in MEDIUM:
        if getattr(disk, field):
            name = field.replace("_", "-")
            hint = f"leave {name} out, or name an image"
            yield device.mistake(name, "the drive is empty, so this has no meaning", hint)


def _modes(device: Named[Disk]) -> Iterator[Unsupported]:
    disk = device.value
    image_format = disk.format or "raw"
    if disk.device == "lun" and disk.type != "block" and disk.protocol != "iscsi":
        why = "a lun is a SCSI device, so its type is block, or network with iscsi"
        yield device.mistake("device", why, "write 'disk', or name a block device")
    if disk.device == "lun" and image_format != "raw":
        why = "the guest gets the lun as it is, so its format is raw"
        yield device.mistake("format", why, "write 'raw', or leave the format out")
    if disk.io == "native" and cache_of(disk) not in ("none", "directsync"):
        why = "native needs the cache mode none or directsync"
        yield device.mistake("io", why, "set the cache mode to 'none', or leave io out")
    if disk.io is not None and disk.type == "network":
        why = "QEMU chooses how it reaches images on the network"
        yield device.refusal("io", why, "leave io out")
    if disk.copy_on_read and (is_read_only(disk) or disk.device != "disk"):
        why, hint = "copy-on-read needs a writable disk", "switch copy-on-read off"
        yield device.mistake("copy-on-read", why, hint)
    if disk.shareable and not disk.read_only and image_format != "raw":
        why = f"several VMs cannot write to one image in the format {disk.format}"
        hint = "leave shareable out, or make the disk read-only, or use a raw image"
        yield device.refusal("shareable", why, hint)


def _driver(device: Named[Disk], context: Context) -> Iterator[Unsupported]:
    disk, driver = device.value, driver_of(device.value)
    if disk.read_only and driver == "ide-hd":
        why = f"a disk on {disk.bus} cannot be read-only"
        yield device.refusal("read-only", why, "put it on the bus 'virtio' or 'scsi'")
    if disk.discard_no_unref is not None and context.capabilities.version < (8, 1, 0):
        why = f"QEMU {context.capabilities.version_text} does not know it"
        yield device.refusal("discard-no-unref", why, "leave it out, or use a newer QEMU")
    if disk.removable is False and driver not in ("usb-storage", "scsi-hd"):
        why = f"'{driver}' has no such property"
        yield device.refusal("removable", why, "leave it out")
