# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices of the host and a real QEMU, on hosts that have none: what is given reaches it."""

import re
from pathlib import Path

import pytest

from bpferry.errors import BpferryError
from tests.client.fake_host import FakeHost
from tests.devices.running import domain, running

pytestmark = pytest.mark.qemu

USB = (
    "<hostdev mode='subsystem' type='usb'><source{}><vendor id='0x046d'/><product id='0xc52b'/>"
    "</source></hostdev>"
)
PCI = (
    "<hostdev mode='subsystem' type='pci' managed='no'><source>"
    "<address domain='0x0000' bus='0x06' slot='0x12' function='0x5'/></source></hostdev>"
)


def test_qemu_gets_the_file_of_a_usb_device(tmp_path: Path) -> None:
    """It looks into the set of fds, and finds one of a file that is not a USB device."""
    host = FakeHost(tmp_path / "host")
    host.add_usb(1, 4)
    with (
        pytest.raises(AssertionError, match="failed to open host usb device /dev/fdset/1000"),
        running(domain(USB.format("")), tmp_path, files=host.files),
    ):
        pass


def test_guest_goes_without_an_optional_usb_device(tmp_path: Path) -> None:
    """The VM runs, and its user is told."""
    document = domain(USB.format(" startupPolicy='optional'"))
    host = FakeHost(tmp_path / "host")
    with running(document, tmp_path, files=host.files) as vm:
        told = [fault.message for fault in vm.draft.general_faults()]

        assert any("the guest goes without it: the host has no USB device" in one for one in told)


@pytest.mark.parametrize(
    ("device", "words"),
    [
        (USB.format(""), "the host has no USB device 046d:c52b"),
        (PCI, "the host has no PCI device 0000:06:12.5"),
    ],
)
def test_device_that_is_not_there(device: str, words: str, tmp_path: Path) -> None:
    """Nothing is started, and the error has the place in the document."""
    host = FakeHost(tmp_path / "host")
    with (
        pytest.raises(BpferryError, match=words) as caught,
        running(domain(device), tmp_path, files=host.files),
    ):
        pass

    assert "/domain/devices/hostdev" == caught.value.element


def test_qemu_looks_for_the_pci_device(tmp_path: Path) -> None:
    """It is named as the kernel names it; here it is only on paper."""
    host = FakeHost(tmp_path / "host")
    host.add_pci("0000:06:12.5")
    host.open_group()
    words = re.escape("host=0000:06:12.5") + "|vfio 0000:06:12.5|0000:06:12.5"
    with (
        pytest.raises(AssertionError, match=words),
        running(domain(PCI), tmp_path, files=host.files),
    ):
        pass
