# SPDX-License-Identifier: LGPL-2.1-or-later
"""The /sys and /dev of a host with devices, in a folder of a test."""

import os
from pathlib import Path

from bpferry.machine.host_files import HostFiles


class FakeHost:
    """A host on paper, to which devices are added."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = HostFiles(root)

    def write(self, name: str, text: str = "") -> Path:
        """Write a file."""
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def link(self, name: str, target: str) -> None:
        """Make a link; what it points to need not be there."""
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    def add_usb(
        self, bus: int, number: int, ids: str = "046d:c52b", name: str = "USB Receiver"
    ) -> Path:
        """Add a device on USB with one interface, and return its node."""
        vendor, product = ids.split(":")
        folder = f"/sys/bus/usb/devices/{bus}-{number}"
        for file, text in (
            ("idVendor", vendor), ("idProduct", product), ("busnum", str(bus)),
            ("devnum", str(number)), ("manufacturer", "ACME"), ("product", name),
        ):  # fmt: skip
            self.write(f"{folder}/{file}", f"{text}\n")
        self.write(f"/sys/bus/usb/devices/{bus}-{number}:1.0/bInterfaceNumber", "00\n")
        return self.write(f"/dev/bus/usb/{bus:03d}/{number:03d}")

    def add_pci(
        self, address: str, driver: str = "vfio-pci", group: str = "7", kind: str = "0x020000"
    ) -> None:
        """Add a device on PCI, in a group of an IOMMU unless that is empty."""
        folder = f"/sys/bus/pci/devices/{address}"
        self.write(f"{folder}/class", f"{kind}\n")
        if driver:
            self.link(f"{folder}/driver", f"../../../bus/pci/drivers/{driver}")
        if group:
            self.link(f"{folder}/iommu_group", f"../../../kernel/iommu_groups/{group}")
            self.write(f"/sys/kernel/iommu_groups/{group}/devices/{address}")

    def add_mdev(self, uuid: str, group: str = "9") -> None:
        """Add a mediated device."""
        self.link(f"/sys/bus/mdev/devices/{uuid}/iommu_group", f"../../iommu_groups/{group}")

    def open_group(self, group: str = "7") -> None:
        """Give the files of a group of VFIO to the user."""
        self.write(f"/dev/vfio/{group}")
        self.write("/dev/vfio/vfio")

    def open_device(self, folder: str, name: str = "vfio3") -> None:
        """Give the files for iommufd to the user."""
        self.write(f"{folder}/vfio-dev/{name}/dev")
        self.write(f"/dev/vfio/devices/{name}")
        self.write("/dev/iommu")


def close(path: Path) -> None:
    """Keep a file from an ordinary user."""
    path.chmod(0o000)


def is_root() -> bool:
    """Say whether no file can be closed to us."""
    return os.geteuid() == 0
