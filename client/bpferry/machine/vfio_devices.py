# SPDX-License-Identifier: LGPL-2.1-or-later
"""PCI and mediated devices of the host: whether VFIO has them, and this user may use them.

A device is given away with all others of its IOMMU group, since they can reach each other's memory.
The file of the group is /dev/vfio/N; newer kernels have one for each device, in /dev/vfio/devices,
which is used with /dev/iommu. Only root can bind a device to VFIO, and it stays bound.
"""

from typing import Final

from bpferry.commandline.context import HostNode
from bpferry.commandline.host_devices.vfio import IOMMUFD_NODE, MDEV_FOLDER
from bpferry.machine.host_files import HostFiles

PCI: Final = "/sys/bus/pci/devices"
GROUPS: Final = "/sys/kernel/iommu_groups"
CONTAINER: Final = "/dev/vfio/vfio"

HARMLESS: Final = ("pcieport", "pci-stub", "shpchp")
"""Drivers of other devices in a group that do not use them; bridges are fine too."""


def find_pci(address: str, *, managed: bool, files: HostFiles) -> HostNode:
    """Return what is known of the PCI device at *address*, such as 0000:06:12.5."""
    folder = f"{PCI}/{address}"
    if not files.exists(folder):
        return HostNode(
            problem=f"the host has no PCI device {address}",
            hint="'lspci -D' lists what there is",
            is_absent=True,
        )
    group = files.target(f"{folder}/iommu_group")
    if not group:
        return HostNode(
            problem=f"the PCI device {address} is in no IOMMU group, so it could reach all of "
            "the host's memory",
            hint="ask the administrator to turn the IOMMU on: in the firmware (VT-d, AMD-Vi), and "
            "on an Intel host with intel_iommu=on on the kernel's command line",
        )
    driver = files.target(f"{folder}/driver")
    if not is_vfio(driver):
        return _not_bound(address, driver, managed=managed)
    return _others(address, group, files) or _node(
        folder, group, f"the PCI device {address}", files
    )


def find_mdev(uuid: str, files: HostFiles) -> HostNode:
    """Return what is known of the mediated device *uuid*."""
    folder = f"{MDEV_FOLDER}/{uuid}"
    if not files.exists(folder):
        return HostNode(
            problem=f"the host has no mediated device {uuid}",
            hint="ask the administrator to make it: mdevctl start -u UUID -p PARENT -t TYPE, and "
            "mdevctl define --auto so that it exists after each boot",
            is_absent=True,
        )
    group = files.target(f"{folder}/iommu_group")
    return _node(folder, group, f"the mediated device {uuid}", files)


def is_vfio(driver: str) -> bool:
    """Say whether *driver* gives devices to VFIO; some vendors' drivers have other names."""
    return driver == "vfio-pci" or driver.endswith(("-vfio-pci", "_vfio_pci"))


def _not_bound(address: str, driver: str, *, managed: bool) -> HostNode:
    now = f"its driver on the host is '{driver}'" if driver else "it has no driver on the host"
    asked = "; managed='yes' asks for the change at each start, and only root can do it"
    return HostNode(
        problem=f"the PCI device {address} is not bound to vfio-pci: {now}{asked * managed}",
        hint="ask the administrator to bind it, which lasts: "
        f"driverctl set-override {address} vfio-pci",
        field="managed" if managed else "",
    )


def _others(address: str, group: str, files: HostFiles) -> HostNode | None:
    """Return what prevents giving away the *group* of a device, if anything does."""
    used = []
    for other in files.names(f"{GROUPS}/{group}/devices"):
        driver = files.target(f"{PCI}/{other}/driver")
        is_bridge = files.text(f"{PCI}/{other}/class").startswith("0x0604")
        if driver and not is_vfio(driver) and driver not in HARMLESS and not is_bridge:
            used.append(f"{other} ({driver})")
    if not used:
        return None
    return HostNode(
        problem=f"the PCI device {address} is in group {group} with {', '.join(used)}, which the "
        "host uses; a group can only be given away as a whole",
        hint="ask the administrator to bind those too, or to move the card to another slot",
    )


def _node(folder: str, group: str, what: str, files: HostFiles) -> HostNode:
    by_group = f"/dev/vfio/{group}"
    cdev = next(iter(files.names(f"{folder}/vfio-dev")), "")
    by_device = f"/dev/vfio/devices/{cdev}"
    if group and files.may_use(by_group) and files.may_use(CONTAINER):
        return HostNode(str(files.path(by_group)))
    if cdev and files.may_use(by_device) and files.may_use(IOMMUFD_NODE):
        return HostNode(str(files.path(by_device)), by_iommufd=True)
    nodes = [node for node in (by_group, CONTAINER) if group and not files.may_use(node)]
    nodes = nodes or [by_device, IOMMUFD_NODE]
    listed = " and ".join(f"'{node}' ({files.owner_of(node) or 'not there'})" for node in nodes)
    return HostNode(
        problem=f"you may not read and write {listed}, by which {what} is used",
        hint="ask the administrator to give it to a group of yours, in "
        f"/etc/udev/rules.d/70-bpferry.rules: "
        f'SUBSYSTEM=="vfio", KERNEL=="{group or cdev}", GROUP="kvm", MODE="0660"; then '
        "udevadm control --reload and udevadm trigger --subsystem-match=vfio",
    )
