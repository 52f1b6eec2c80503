# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can be left out of disks in the native form: the bus, and the name of the target.

A disk is on virtio, a CD drive on what the machine has for it, a floppy on its own bus.
The name follows from the bus and the position in the list: vda, vdb, ..., as in libvirt's
documents. This works on plain values, before they are checked against any type.
"""

import re
from collections.abc import Iterator
from typing import Final

from bpferry.domain.architectures import is_pc

Plain = dict[str, object]

PREFIXES: Final = {
    "virtio": "vd", "scsi": "sd", "sata": "sd", "usb": "sd", "ide": "hd", "fdc": "fd",
}  # fmt: skip
"""How the names of disks on a bus begin in a libvirt document (docs/formatdomain, 'target')."""

BUSES: Final = {"floppy": "fdc", "lun": "scsi"}

IDE_MACHINES: Final = ("pc", "pc-i440fx", "isapc")
"""Machine types whose chipset has IDE."""

SATA_MACHINES: Final = ("q35", "pc-q35")
"""Machine types whose chipset has SATA."""

LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


def expand(plain: Plain) -> None:
    """Add bus and target to the disks of *plain* that have no target."""
    disks = plain.get("disks")
    known = [disk for disk in disks if isinstance(disk, dict)] if isinstance(disks, list) else []
    used = {str(disk["target"]) for disk in known if "target" in disk}
    names = {prefix: target_names(prefix, used) for prefix in set(PREFIXES.values())}
    for disk in known:
        bus = disk.get("bus", _bus_of(disk, plain))
        if "target" not in disk and isinstance(bus, str) and bus in PREFIXES:
            disk["bus"] = bus
            target = next(names[PREFIXES[bus]], None)
            # Beyond the last name the target stays missing, which is reported later.
            disk.update({"target": target} if target else {})
            if bus == "scsi":
                _want_virtio_scsi(plain)


def _want_virtio_scsi(plain: Plain) -> None:
    """Add the controller that everybody wants, since libvirt's default is an LSI 53C895A."""
    controllers = plain.setdefault("controllers", [])
    if isinstance(controllers, list) and not any(_is_scsi(entry) for entry in controllers):
        controllers.append({"type": "scsi", "model": "virtio-scsi"})


def _is_scsi(controller: object) -> bool:
    return isinstance(controller, dict) and controller.get("type") == "scsi"


def _bus_of(disk: Plain, plain: Plain) -> str:
    device = disk.get("device", "disk")
    usual = "q35" if is_pc(str(plain.get("arch", "x86_64"))) else "virt"
    machine = re.sub(r"-\d+\.\d+.*", "", str(plain.get("machine-type", usual)))
    if device == "cdrom" and machine in SATA_MACHINES:
        return "sata"
    if device == "cdrom":
        return "ide" if machine in IDE_MACHINES else "scsi"
    return "ide" if machine == "isapc" and device == "disk" else BUSES.get(str(device), "virtio")


def target_names(prefix: str, used: set[str]) -> Iterator[str]:
    """Yield the names of targets that begin with *prefix* and are not *used*."""
    for letters in (*LETTERS, *(one + two for one in LETTERS for two in LETTERS)):
        if prefix + letters not in used:
            yield prefix + letters
