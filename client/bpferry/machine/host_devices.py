# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether the host's devices that the guest is to get are there, and this user's.

QEMU opens them itself. What would only fail then, with words about file descriptors and groups, is
found here before, with what the administrator can do about it. Nothing is changed on the host.
"""

import os
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from bpferry.commandline.build import Built
from bpferry.commandline.parts import HostUsb, HostVfio
from bpferry.domain.document import Document
from bpferry.domain.model.host_devices import HostDevice
from bpferry.domain.model.machine import Machine
from bpferry.errors import BpferryError

SYSFS: Final = Path("/sys")
DEV: Final = Path("/dev")

VFIO_DRIVERS: Final = "vfio-pci"
"""How the names of the drivers begin that let a process have the device; some go on after it."""

RULE: Final = (
    'the administrator gives it to you by a rule of udev, such as SUBSYSTEM=="{0}", {1}'
    'OWNER="{2}" in /etc/udev/rules.d'
)

SPARE_BYTES: Final = 2**30
"""What QEMU may lock beside the guest's memory: windows of devices, as in libvirt."""


def without_absent_devices(document: Document, dev: Path = DEV) -> tuple[Document, tuple[str, ...]]:
    """Return *document* without the places of optional USB devices that are not there.

    The second value has a sentence for each. QEMU has the device all the same, with nothing in it.
    """
    devices = []
    sentences = []
    for device in document.machine.host_devices:
        node = _optional_node(device, dev)
        if node is None or node.exists():
            devices.append(device)
            continue
        sentences.append(f"there is no '{node}', which is optional: nothing is plugged in")
        devices.append(msgspec.structs.replace(device, at=None, vendor=None, product=None))
    machine = msgspec.structs.replace(document.machine, host_devices=tuple(devices))
    return replace(document, machine=machine), tuple(sentences)


def _optional_node(device: HostDevice, dev: Path) -> Path | None:
    where = device.at
    if device.startup_policy != "optional" or where is None or where.bus is None:
        return None
    return dev / "bus" / "usb" / f"{where.bus:03}" / f"{where.device or 0:03}"


def find_unusable(
    built: Built, machine: Machine, sysfs: Path = SYSFS, dev: Path = DEV
) -> Iterator[BpferryError]:
    """Yield why each device of the host that *built* names cannot be had, with its key."""
    for usb in built.of(HostUsb):
        yield from _usb_problem(usb, sysfs, dev)
    vfio = built.of(HostVfio)
    for device in vfio:
        yield from _vfio_problem(device, sysfs, dev)
    if vfio:
        yield from _memory_problem(machine, vfio[0].key)


def _usb_problem(usb: HostUsb, sysfs: Path, dev: Path) -> Iterator[BpferryError]:
    if usb.path is not None:
        node = dev / Path(usb.path).relative_to("/dev")
        yield from _node_problem(node, usb.key, "usb", _rule_words(usb))
        return
    name = f"{usb.vendor:04x}:{usb.product:04x}"
    found = sorted(_nodes_of(usb, sysfs, dev))
    if not found and not usb.optional:
        yield BpferryError(
            f"no USB device {name} is plugged in",
            "plug it in, or let the VM start without it (startupPolicy='optional')",
            usb.key,
        )
    elif len(found) > 1:
        yield BpferryError(
            f"{len(found)} USB devices {name} are plugged in",
            "say which by its place, as lsusb shows it: <address bus='1' device='2'/>",
            usb.key,
        )
    for node in found[:1]:
        yield from _node_problem(node, usb.key, "usb", _rule_words(usb))


def _rule_words(usb: HostUsb) -> str:
    if usb.vendor is None:
        return ""
    return f'ATTR{{idVendor}}=="{usb.vendor:04x}", ATTR{{idProduct}}=="{usb.product:04x}", '


def _nodes_of(usb: HostUsb, sysfs: Path, dev: Path) -> Iterator[Path]:
    """Yield the nodes of the devices that are plugged in and of the kind of *usb*."""
    for folder in (sysfs / "bus" / "usb" / "devices").glob("*"):
        ids = [_read(folder / name) for name in ("idVendor", "idProduct")]
        if ids == [f"{usb.vendor:04x}", f"{usb.product:04x}"]:
            bus, number = (_read(folder / name) for name in ("busnum", "devnum"))
            yield dev / "bus" / "usb" / f"{int(bus):03}" / f"{int(number):03}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _vfio_problem(device: HostVfio, sysfs: Path, dev: Path) -> Iterator[BpferryError]:
    folder = sysfs / Path(device.path).relative_to("/sys")
    if not folder.exists():
        made = "" if device.pci else ", and root makes it: mdevctl start"
        yield BpferryError(
            f"this host has no device '{device.path}'",
            f"correct the address{made}",
            device.key,
        )
        return
    driver = (folder / "driver").resolve().name if (folder / "driver").exists() else ""
    if device.pci and not driver.startswith(VFIO_DRIVERS):
        yield BpferryError(
            f"'{folder.name}' is not free for VMs: "
            + (f"the host's driver '{driver}' has it" if driver else "no driver has it"),
            f"the administrator gives it to vfio-pci: driverctl set-override {folder.name} "
            f"{VFIO_DRIVERS}",
            device.key,
        )
    group = (folder / "iommu_group").resolve().name if (folder / "iommu_group").exists() else ""
    if not group:
        yield BpferryError(
            f"'{folder.name}' is in no IOMMU group: this host cannot keep it from other memory",
            "the administrator turns the IOMMU on, in the firmware and on the kernel's command "
            "line (intel_iommu=on)",
            device.key,
        )
        return
    words = f'KERNEL=="{group}", '
    yield from _node_problem(dev / "vfio" / group, device.key, "vfio", words)


def _node_problem(node: Path, key: str, subsystem: str, words: str) -> Iterator[BpferryError]:
    if not node.exists():
        hint = "plug it in" if subsystem == "usb" else "the administrator loads vfio-pci"
        yield BpferryError(f"there is no '{node}'", hint, key)
    elif not os.access(node, os.R_OK | os.W_OK):
        user = os.environ.get("USER", "you")
        yield BpferryError(f"'{node}' is not yours", RULE.format(subsystem, words, user), key)


def _memory_problem(machine: Machine, key: str) -> Iterator[BpferryError]:
    """Yield why the guest's memory cannot be locked, which a device that reads it needs."""
    wanted = max(machine.memory, sum(cell.memory for cell in machine.cpu.numa)) + SPARE_BYTES
    _, most = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if most != resource.RLIM_INFINITY and most < wanted:
        yield BpferryError(
            f"you may lock {most // 2**20} MiB of memory, and the device needs "
            f"{wanted // 2**20} MiB",
            "the administrator raises 'memlock' for you in /etc/security/limits.conf",
            key,
        )
