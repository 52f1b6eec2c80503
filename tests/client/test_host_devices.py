# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices of the host: which one is meant, and why it cannot be had, on hosts that are made up."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from bpferry.commandline.build import Built
from bpferry.commandline.context import Context, HostNode
from bpferry.commandline.parts import LockedMemory
from bpferry.domain.model.host_devices import HostAddress, HostDevice
from bpferry.machine.host_devices import find_host_faults, find_host_nodes
from bpferry.machine.host_files import HostFiles
from bpferry.machine.locked_memory import find_limit_fault, own_limits, raised_limit
from bpferry.machine.usb_devices import find_usb, list_usb
from bpferry.machine.vfio_devices import find_mdev, find_pci, is_vfio
from tests import requires
from tests.client.commandline.test_host_devices import context_of
from tests.client.fake_host import FakeHost

BY_IDS = HostDevice(type="usb", vendor=0x046D, product=0xC52B)
ADDRESS = "0000:06:12.5"
UUID = "53764d0e-85a0-42b4-af5c-2046b460b1dc"


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    """Return a host without devices."""
    return FakeHost(tmp_path)


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Close files of mode 0000 to us, also where we are root."""
    real = os.access

    def access(path: Path, mode: int, *, effective_ids: bool = False) -> bool:
        mode_of = path.stat().st_mode & 0o777 if path.exists() else 0o777
        return mode_of != 0 and real(path, mode, effective_ids=effective_ids)

    monkeypatch.setattr(os, "access", access)


def test_usb_device_by_its_ids(host: FakeHost) -> None:
    """Vendor and product are enough where there is one such device."""
    host.add_usb(1, 2, "1d6b:0002", "Hub")
    node = host.add_usb(1, 4)

    assert HostNode(str(node)) == find_usb(BY_IDS, host.files)


def test_usb_device_by_its_place(host: FakeHost) -> None:
    """So are bus and device."""
    host.add_usb(1, 2)
    node = host.add_usb(14, 6)
    wanted = HostDevice(type="usb", at=HostAddress(bus=14, device=6))

    assert HostNode(str(node)) == find_usb(wanted, host.files)


def test_interfaces_are_no_devices(host: FakeHost) -> None:
    """What else is among the kernel's devices is passed over."""
    host.add_usb(1, 2)
    host.write("/sys/bus/usb/devices/usb1/speed", "480")

    assert ["046d:c52b ACME USB Receiver"] == [str(one) for one in list_usb(host.files)]


def test_two_usb_devices_of_one_kind(host: FakeHost) -> None:
    """Which one is not ours to choose; both are named, and how to say it."""
    host.add_usb(1, 4)
    second = host.add_usb(2, 3)
    found = find_usb(BY_IDS, host.files)

    assert "the host has 2 devices 046d:c52b: bus 1 device 4, bus 2 device 3" == found.problem
    assert "<address bus='1' device='4'/>" in found.hint
    wanted = msgspec.structs.replace(BY_IDS, at=HostAddress(bus=2, device=3))
    assert HostNode(str(second)) == find_usb(wanted, host.files)


def test_usb_device_that_is_not_there(host: FakeHost) -> None:
    """It is said, in the words that the description uses."""
    found = find_usb(msgspec.structs.replace(BY_IDS, at=HostAddress(bus=1, device=2)), host.files)

    assert found.is_absent
    assert "the host has no USB device 046d:c52b at bus 1 device 2" == found.problem


@pytest.mark.usefixtures("closed")
def test_usb_device_that_is_not_open_to_the_user(host: FakeHost) -> None:
    """Node, owner, group and mode are said, and the rule of udev that opens it."""
    node = host.add_usb(1, 4)
    node.chmod(0)
    found = find_usb(BY_IDS, host.files)

    assert "'/dev/bus/usb/001/004', the USB device 046d:c52b ACME USB Receiver" in found.problem
    assert f"(it is {host.files.owner_of('/dev/bus/usb/001/004')})" in found.problem
    assert "mode 0000" in found.problem
    rule = 'SUBSYSTEM=="usb", ATTR{idVendor}=="046d", ATTR{idProduct}=="c52b", TAG+="uaccess"'
    assert rule in found.hint


def test_usb_device_without_a_node(host: FakeHost) -> None:
    """As in a container that has /sys and no /dev/bus/usb."""
    host.add_usb(1, 4).unlink()

    assert "the node of the USB device" in find_usb(BY_IDS, host.files).problem


def pci(host: FakeHost, *, managed: bool = False) -> HostNode:
    """Return what is known of the device at ADDRESS."""
    return find_pci(ADDRESS, managed=managed, files=host.files)


@pytest.mark.parametrize("managed", [False, True])
def test_pci_device_that_is_ready(managed: bool, host: FakeHost) -> None:  # noqa: FBT001
    """It is bound, and its group is the user's; then managed='yes' asks for nothing more."""
    host.add_pci(ADDRESS)
    host.open_group()

    assert HostNode(str(host.root / "dev/vfio/7")) == pci(host, managed=managed)


def test_pci_device_by_iommufd(host: FakeHost) -> None:
    """Where the group is not the user's and the device's own file is, that is used."""
    host.add_pci(ADDRESS)
    host.open_device(f"/sys/bus/pci/devices/{ADDRESS}")

    assert HostNode(str(host.root / "dev/vfio/devices/vfio3"), by_iommufd=True) == pci(host)


def absent(_: FakeHost) -> None:
    """Add nothing."""


def without_iommu(host: FakeHost) -> None:
    """Add a device in no group."""
    host.add_pci(ADDRESS, group="")


def used(host: FakeHost) -> None:
    """Add a device that the host uses."""
    host.add_pci(ADDRESS, "e1000e")


def unused(host: FakeHost) -> None:
    """Add a device without a driver."""
    host.add_pci(ADDRESS, "")


def beside_others(host: FakeHost) -> None:
    """Add a device in a group with others: one used, one not, a bridge, and one for VFIO."""
    host.add_pci(ADDRESS)
    host.add_pci("0000:06:12.6", "snd_hda_intel")
    host.add_pci("0000:06:12.7", "")
    host.add_pci("0000:06:00.0", "some_bridge", kind="0x060400")
    host.add_pci("0000:06:12.4", "mlx5_vfio_pci")
    host.open_group()


def not_given(host: FakeHost) -> None:
    """Add a device whose group has no file of the user's."""
    host.add_pci(ADDRESS)
    host.write("/dev/vfio/vfio")


PROBLEMS = [
    (absent, "the host has no PCI device 0000:06:12.5", "lspci -D"),
    (without_iommu, "is in no IOMMU group", "intel_iommu=on"),
    (used, "is not bound to vfio-pci: its driver on the host is 'e1000e'",
     "driverctl set-override 0000:06:12.5 vfio-pci"),
    (unused, "is not bound to vfio-pci: it has no driver on the host", "driverctl"),
    (beside_others, "is in group 7 with 0000:06:12.6 (snd_hda_intel), which the host uses",
     "bind those too"),
    (not_given, "you may not read and write '/dev/vfio/7' (not there)",
     'SUBSYSTEM=="vfio", KERNEL=="7", GROUP="kvm", MODE="0660"'),
]  # fmt: skip


@pytest.mark.parametrize(("prepare", "problem", "hint"), PROBLEMS)
def test_pci_device_that_cannot_be_had(
    prepare: Callable[[FakeHost], None], problem: str, hint: str, host: FakeHost
) -> None:
    """It is said what exactly is in the way, and what the administrator does about it."""
    prepare(host)
    found = pci(host)

    assert problem in found.problem
    assert hint in found.hint
    assert (prepare is absent) == found.is_absent


def test_managed_device_that_is_not_bound(host: FakeHost) -> None:
    """What libvirt would do at each start, as root, is not done here; the place says what asks."""
    used(host)
    found = pci(host, managed=True)

    assert "managed='yes' asks for the change at each start, and only root" in found.problem
    assert "managed" == found.field


@pytest.mark.usefixtures("closed")
def test_group_that_belongs_to_others(host: FakeHost) -> None:
    """Owner, group and mode are said."""
    host.add_pci(ADDRESS)
    host.open_group()
    (host.root / "dev/vfio/7").chmod(0)

    assert f"'/dev/vfio/7' ({host.files.owner_of('/dev/vfio/7')})" in pci(host).problem


def test_drivers_of_vfio() -> None:
    """Some makers have their own."""
    names = ("vfio-pci", "mlx5_vfio_pci", "nvgrace_gpu_vfio_pci", "hisi-acc-vfio-pci", "nvidia", "")

    assert [True, True, True, True, False, False] == [is_vfio(name) for name in names]


def test_mediated_device(host: FakeHost) -> None:
    """It has a group as well, and nobody has to bind it."""
    host.add_mdev(UUID)
    host.open_group("9")

    assert HostNode(str(host.root / "dev/vfio/9")) == find_mdev(UUID, host.files)


def test_mediated_device_that_nobody_has_made(host: FakeHost) -> None:
    """Making one is for root."""
    found = find_mdev(UUID, host.files)

    assert found.is_absent
    assert f"the host has no mediated device {UUID}" == found.problem
    assert "mdevctl" in found.hint


MIXED = f"""
<hostdev mode='subsystem' type='usb'><source><vendor id='0x046d'/><product id='0xc52b'/></source>
</hostdev>
<hostdev mode='subsystem' type='pci' managed='yes'>
<source><address domain='0x0000' bus='0x06' slot='0x12' function='0x5'/></source></hostdev>
<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='{UUID}'/></source>
</hostdev>
<hostdev mode='subsystem' type='scsi_host'><source protocol='vhost' wwpn='naa.5123456789abcde0'/>
</hostdev>
"""


def on(host: FakeHost, devices: str) -> Context:
    """Return a VM with *devices*, and what is known of them on *host*."""
    context = context_of(devices)
    return replace(context, host_nodes=find_host_nodes(context.machine, host.files))


def faults(context: Context) -> list[str | None]:
    """Return what in the description cannot be had."""
    return [fault.element for fault in find_host_faults(context)]


def test_each_kind_is_looked_for(host: FakeHost) -> None:
    """By what the document says; what is wrong has a place in it."""
    used(host)

    assert [
        "host-devices[0]", "host-devices[1].managed", "host-devices[2]", "host-devices[3]",
    ] == faults(on(host, MIXED))  # fmt: skip


def test_device_that_is_not_named_is_not_looked_for(host: FakeHost) -> None:
    """It is refused, which is somebody else's business."""
    assert [] == faults(on(host, "<hostdev mode='subsystem' type='pci'><source/></hostdev>"))


def vhost_scsi(host: FakeHost) -> HostNode:
    """Return what is known of vhost-scsi."""
    found = on(host, MIXED)
    return found.host_nodes[found.machine.host_devices[3].which]


def test_vhost_scsi(host: FakeHost) -> None:
    """Its file is there and the user's, or it is said what is missing."""
    before = vhost_scsi(host)
    host.write("/dev/vhost-scsi")

    assert "modprobe vhost_scsi" in before.hint
    assert "" == vhost_scsi(host).problem


@pytest.mark.usefixtures("closed")
def test_vhost_scsi_of_others(host: FakeHost) -> None:
    """As for the others."""
    host.write("/dev/vhost-scsi").chmod(0)

    assert "mode 0000" in vhost_scsi(host).problem


def test_optional_device_need_not_be_there(host: FakeHost) -> None:
    """But if it is there, it has to be the user's."""
    text = MIXED.partition("<hostdev mode='subsystem' type='pci'")[0].replace(
        "<source>", "<source startupPolicy='optional'>"
    )
    without = faults(on(host, text))
    host.add_usb(1, 4)
    host.add_usb(1, 5)

    assert ([], ["host-devices[0]"]) == (without, faults(on(host, text)))


def test_devices_of_this_host() -> None:
    """Whatever PCI devices there are here are found, with what keeps them from a guest."""
    files = HostFiles()
    addresses = files.names("/sys/bus/pci/devices")
    requires.something(addresses, "PCI devices")
    found = [find_pci(address, managed=False, files=files) for address in addresses]

    assert not any(node.is_absent for node in found)
    assert all(node.problem or node.path for node in found)


MIB = 2**20


def built(size: int) -> Built:
    """Return a command line of a VM that has *size* bytes locked."""
    return Built((), (LockedMemory(size, "host-devices[0]"),), ())


@pytest.fixture
def no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be an ordinary user, as far as we look."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("USER", "alice")


@pytest.mark.usefixtures("no_root")
def test_too_little_memory_may_be_locked() -> None:
    """How much is needed, how much there is, and what the administrator writes where."""
    (found,) = find_limit_fault(built(5 * MIB + 1), (0, 4 * MIB))

    assert (
        "QEMU has to lock 5121 KiB of memory for it, and you may lock 4096 KiB (ulimit -H -l)"
        == found.message
    )
    assert "'alice - memlock 5121'" in found.hint
    assert "LimitMEMLOCK=5121K" in found.hint
    assert "host-devices[0]" == found.element


@pytest.mark.usefixtures("no_root")
@pytest.mark.parametrize("hard", [5 * MIB, resource.RLIM_INFINITY])
def test_enough_memory_may_be_locked(hard: int) -> None:
    """The soft limit does not count: it is raised."""
    assert [] == list(find_limit_fault(built(5 * MIB), (0, hard)))


def test_limit_is_raised_for_what_is_started() -> None:
    """And is what it was afterwards."""
    before = own_limits()
    script = "import resource; print(resource.getrlimit(resource.RLIMIT_MEMLOCK)[0])"
    low = (MIB, before[1])
    resource.setrlimit(resource.RLIMIT_MEMLOCK, low)
    wanted = 2 * MIB if before[1] == resource.RLIM_INFINITY else min(2 * MIB, before[1])
    try:
        with raised_limit(built(2 * MIB)):
            seen = subprocess.check_output([sys.executable, "-c", script], text=True)
        after = own_limits()
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, before)

    assert (wanted, low) == (int(seen), after)


def test_limit_stays_where_nothing_is_locked() -> None:
    """A VM without such devices changes nothing."""
    before = own_limits()
    with raised_limit(Built((), (), ())):
        assert before == own_limits()
