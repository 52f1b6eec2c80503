# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether devices of the host can be had, on a host that is made of files."""

import os
import resource
from pathlib import Path

import pytest

from bpferry.commandline.build import Built
from bpferry.commandline.parts import HostUsb, HostVfio
from bpferry.domain.document import read_bytes
from bpferry.machine.host_devices import find_unusable, without_absent_devices
from tests.client.support import MACHINE

PLACE = HostUsb("host-devices[0]", "/dev/bus/usb/001/002", None, None, optional=False)
KIND = HostUsb("host-devices[0]", None, 0x1234, 0xBEEF, optional=False)
PCI = HostVfio("host-devices[0]", "/sys/bus/pci/devices/0000:03:00.0", pci=True)
MEDIATED = HostVfio("host-devices[0]", "/sys/bus/mdev/devices/a-b", pci=False)

DOCUMENT = """\
<domain type='kvm'><name>vm</name><memory unit='MiB'>64</memory><os><type>hvm</type></os>
<devices><hostdev mode='subsystem' type='usb'>
<source startupPolicy='{}'><address bus='1' device='2'/></source></hostdev></devices></domain>"""


class Host:
    """A host whose /sys and /dev are folders."""

    def __init__(self, folder: Path) -> None:
        self.sys = folder / "sys"
        self.dev = folder / "dev"

    def plug_in(self, name: str, vendor: str, product: str, number: int) -> None:
        """Add a USB device with its node."""
        folder = self.sys / "bus/usb/devices" / name
        folder.mkdir(parents=True)
        for file, text in (
            ("idVendor", vendor), ("idProduct", product), ("busnum", "1"), ("devnum", str(number))
        ):  # fmt: skip
            (folder / file).write_text(f"{text}\n", encoding="ascii")
        self.make_node(f"bus/usb/001/{number:03}")

    def make_node(self, path: str) -> None:
        """Add a node that this user may open."""
        node = self.dev / path
        node.parent.mkdir(parents=True, exist_ok=True)
        node.touch()

    def add(self, device: HostVfio, driver: str, group: str) -> None:
        """Add a device with its driver and its IOMMU group."""
        folder = self.sys / Path(device.path).relative_to("/sys")
        folder.mkdir(parents=True)
        for link, target in (("driver", f"drivers/{driver}"), ("iommu_group", f"groups/{group}")):
            if not target.endswith("/"):
                (self.sys / target).mkdir(parents=True, exist_ok=True)
                (folder / link).symlink_to(self.sys / target)

    def problems(self, *parts: HostUsb | HostVfio) -> list[str]:
        """Return what is wrong with the devices of *parts*."""
        built = Built((), parts, ())
        return [error.message for error in find_unusable(built, MACHINE, self.sys, self.dev)]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Return a host with no device."""
    return Host(tmp_path)


@pytest.fixture(autouse=True)
def _no_limit_of_locked_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let memory be locked, whatever this process may; one test says otherwise."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (0, resource.RLIM_INFINITY))


def test_usb_device_that_is_there(host: Host) -> None:
    """Nothing is said of a device that the user may open, by its place or by what it is."""
    host.plug_in("1-1", "1234", "beef", 2)

    assert [] == host.problems(PLACE, KIND)


def test_usb_device_that_is_not_there(host: Host) -> None:
    """It is missed by its name, unless it may be missing."""
    optional = HostUsb("host-devices[0]", None, 0x1234, 0xBEEF, optional=True)

    assert ["no USB device 1234:beef is plugged in"] == host.problems(KIND, optional)
    (problem,) = host.problems(PLACE)
    assert problem.endswith("/dev/bus/usb/001/002'")


def test_two_usb_devices_of_one_kind(host: Host) -> None:
    """Which one is meant has to be said."""
    host.plug_in("1-1", "1234", "beef", 2)
    host.plug_in("1-2", "1234", "beef", 3)

    assert ["2 USB devices 1234:beef are plugged in"] == host.problems(KIND)


def test_node_of_somebody_else(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user may not open is said with the rule of udev that would help."""
    host.plug_in("1-1", "1234", "beef", 2)
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setenv("USER", "alice")
    (error,) = find_unusable(Built((), (KIND,), ()), MACHINE, host.sys, host.dev)

    assert error.message.endswith("/bus/usb/001/002' is not yours")
    rule = 'SUBSYSTEM=="usb", ATTR{idVendor}=="1234", ATTR{idProduct}=="beef", OWNER="alice"'
    assert rule in error.hint


def test_devices_of_vfio_that_are_ready(host: Host) -> None:
    """A PCI device with the right driver and a mediated one, each with the node of its group."""
    host.add(PCI, "vfio-pci", "7")
    host.add(MEDIATED, "vfio_mdev", "8")
    host.make_node("vfio/7")
    host.make_node("vfio/8")

    assert [] == host.problems(PCI, MEDIATED)


@pytest.mark.parametrize(
    ("driver", "group", "sentence"),
    [
        ("nvidia", "7", "is not free for VMs: the host's driver 'nvidia' has it"),
        ("", "7", "is not free for VMs: no driver has it"),
        ("vfio-pci", "", "is in no IOMMU group"),
        ("vfio-pci", "9", "there is no"),
    ],
)
def test_device_that_is_not_ready(driver: str, group: str, sentence: str, host: Host) -> None:
    """What the administrator has not done yet is named."""
    host.make_node("vfio/7")
    host.add(PCI, driver, group)

    (problem,) = host.problems(PCI)
    assert sentence in problem


def test_device_that_the_host_does_not_have(host: Host) -> None:
    """A wrong place is said as such."""
    assert [f"this host has no device '{PCI.path}'"] == host.problems(PCI)


def test_memory_that_cannot_be_locked(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that reads the guest's memory needs all of it to stay in place."""
    host.add(PCI, "vfio-pci", "7")
    host.make_node("vfio/7")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (0, 8 * 2**20))

    assert ["you may lock 8 MiB of memory, and the device needs 1056 MiB"] == host.problems(PCI)
    assert [] == host.problems()


@pytest.mark.parametrize(("policy", "absent"), [("optional", True), ("mandatory", False)])
def test_optional_device(policy: str, absent: bool, host: Host) -> None:  # noqa: FBT001
    """One that may be missing, and is, leaves the guest a device with nothing in it."""
    document = read_bytes(DOCUMENT.format(policy).encode(), Path("/vm.xml"))
    found, sentences = without_absent_devices(document, host.dev)

    assert absent is (found.machine.host_devices[0].at is None)
    assert absent is bool(sentences)
    host.make_node("bus/usb/001/002")
    assert (document, ()) == without_absent_devices(document, host.dev)
