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


def check_disk(device: Named[Disk], context: Context) -> Iterator[Unsupported]:
    """Refuse settings of the disk *device* that do not fit together."""
    disk = device.value
    found = (*_place(disk, context), *_medium(disk), *_modes(disk), *_driver(disk, context))
    for field, sentence in found:
        yield device.refusal(field, sentence)


def _place(disk: Disk, context: Context) -> Iterator[tuple[str, str]]:
    if disk.bus not in BUSES[disk.device]:
        yield "bus", f"QEMU has no {disk.device} on {disk.bus}"
    if disk.model is not None and disk.bus != "virtio":
        yield "model", f"a disk on {disk.bus} has no model"
    if disk.model not in (None, "virtio") and not context.has_pci:
        yield (
            "model",
            f"the machine '{context.machine_type}' has no PCI bus, so the only model is virtio",
        )
    if disk.bus == "ide" and context.family not in ("pc", "isapc"):
        yield "bus", f"the machine '{context.machine_type}' has no IDE controller; try sata"
    if disk.bus == "fdc" and context.family not in ("pc", "isapc", "q35"):
        yield "bus", f"the machine '{context.machine_type}' has no floppy controller"
    if disk.bus in ("sata", "scsi") and not context.has_pci:
        yield "bus", f"the machine '{context.machine_type}' has no PCI bus for its controller"
    place = drive_of(disk)
    if disk.bus == "scsi" and scsi_model_of(disk, context) in SCSI_ID_ONLY:
        if place.target:
            yield "address.target", "a disk of this controller is addressed by its unit only"
        if place.unit > LAST_NARROW_ID:
            yield "address", f"this controller has the units 0 to {LAST_NARROW_ID}"


def _medium(disk: Disk) -> Iterator[tuple[str, str]]:
    if disk.type == "vhostuser" or has_medium(disk):
        return
    if disk.device not in ("cdrom", "floppy"):
        yield "device", "a disk needs a source: a file, a block device or a server"
    if disk.bus == "usb":
        yield "bus", "a drive on usb cannot be empty"
    if disk.backing is not None and disk.backing != BackingImage():
        yield "backing", "the drive is empty, so there is no backing image"
    for field in MEDIUM:
        if getattr(disk, field):
            yield field.replace("_", "-"), "the drive is empty, so this has no meaning"


def _modes(disk: Disk) -> Iterator[tuple[str, str]]:
    if disk.device == "lun" and disk.type != "block" and disk.protocol != "iscsi":
        yield "device", "a lun is a SCSI device, so its type is block, or network with iscsi"
    if disk.device == "lun" and (disk.format or "raw") != "raw":
        yield "format", "the guest gets the lun as it is, so its format is raw"
    if disk.io == "native" and cache_of(disk) not in ("none", "directsync"):
        yield "io", "native needs the cache mode none or directsync"
    if disk.io is not None and disk.type == "network":
        yield "io", "QEMU chooses how it reaches images on the network"
    if disk.copy_on_read and (is_read_only(disk) or disk.device != "disk"):
        yield "copy-on-read", "copy-on-read needs a writable disk"
    if disk.shareable and not disk.read_only and (disk.format or "raw") != "raw":
        yield "shareable", f"several VMs cannot write to one image in the format {disk.format}"


def _driver(disk: Disk, context: Context) -> Iterator[tuple[str, str]]:
    driver = driver_of(disk)
    if disk.read_only and driver == "ide-hd":
        yield "read-only", f"a disk on {disk.bus} cannot be read-only"
    if disk.discard_no_unref is not None and context.capabilities.version < (8, 1, 0):
        yield "discard-no-unref", f"QEMU {context.capabilities.version_text} does not know it"
    if disk.removable is False and driver not in ("usb-storage", "scsi-hd"):
        yield "removable", f"'{driver}' has no such property"
