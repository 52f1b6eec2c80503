# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices of the host in a real QEMU: as far as they need not be there."""

from pathlib import Path

import pytest

from bpferry.errors import BpferryError
from tests.devices.running import domain, running

pytestmark = pytest.mark.qemu

USB = "<hostdev mode='subsystem' type='usb'><source {}>{}</source></hostdev>"
OPTIONAL = "startupPolicy='optional'"
PLACE = "<address bus='997' device='998'/>"
PCI = (
    "<hostdev mode='subsystem' type='pci' managed='yes'><source>"
    "<address domain='0xfffe' bus='0xfe' slot='0x1e' function='0x6'/></source></hostdev>"
)


@pytest.mark.parametrize("source", [PLACE, "<vendor id='0x1234'/><product id='0xbeef'/>"])
def test_usb_device_that_may_be_missing(source: str, tmp_path: Path) -> None:
    """QEMU has a port for it all the same."""
    with running(domain(USB.format(OPTIONAL, source)), tmp_path) as vm:
        assert "usb-host" == vm.qom_type("hostdev0")


@pytest.mark.parametrize("devices", [USB.format("", PLACE), PCI])
def test_device_that_has_to_be_there(devices: str, tmp_path: Path) -> None:
    """What is missing is said before QEMU starts, with its place in the document."""
    with (
        pytest.raises(BpferryError, match="'/domain/devices/hostdev': th") as caught,
        running(domain(devices), tmp_path),
    ):
        pass

    assert caught.value.element == "/domain/devices/hostdev"
