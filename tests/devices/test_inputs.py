# SPDX-License-Identifier: LGPL-2.1-or-later
"""Input devices and USB hubs in a real QEMU."""

from pathlib import Path

import pytest

from tests.devices.running import Running, domain, running

pytestmark = pytest.mark.qemu

TABLET = "<input type='tablet' bus='usb'/>"


def on_port(port: str, what: str = "<input type='mouse' bus='usb'>{}</input>") -> str:
    """Return the device *what* with a USB address."""
    return what.format(f"<address type='usb' bus='0' port='{port}'/>")


def usb_ports(vm: Running) -> dict[str, str]:
    """Return the port of each USB device with an id, as QEMU lists them."""
    listing = vm.execute("x-query-usb")
    assert isinstance(listing, dict)
    found = {}
    for line in str(listing["human-readable-text"]).splitlines():
        fields = dict(part.strip().split(" ", 1) for part in line.split(",") if " " in part.strip())
        if "ID:" in fields:
            found[fields["ID:"]] = fields["Port"]
    return found


@pytest.mark.parametrize(
    ("bus", "drivers"),
    [
        ("usb", ["usb-mouse", "usb-tablet", "usb-kbd"]),
        ("virtio", ["virtio-mouse-pci", "virtio-tablet-pci", "virtio-keyboard-pci"]),
    ],
)
def test_devices_on_a_bus(bus: str, drivers: list[str], tmp_path: Path) -> None:
    """A mouse, a tablet and a keyboard."""
    kinds = ("mouse", "tablet", "keyboard")
    document = domain("".join(f"<input type='{kind}' bus='{bus}'/>" for kind in kinds))
    with running(document, tmp_path) as vm:
        assert drivers == [vm.qom_type(f"input{number}") for number in range(3)]


def test_devices_of_the_machine_itself(tmp_path: Path) -> None:
    """What PS/2 has is there without a word."""
    document = domain("<input type='mouse' bus='ps2'/><input type='keyboard' bus='ps2'/>")
    with running(document, tmp_path) as vm:
        mice = vm.execute("query-mice")

        assert isinstance(mice, list)
        assert ["QEMU PS/2 Mouse"] == [mouse["name"] for mouse in mice]


def test_hubs_and_ports(tmp_path: Path) -> None:
    """Each device is at the port of the document, and one without has a port of its own."""
    hub = "<hub type='usb'>{}</hub>"
    devices = (
        "<controller type='usb' index='0' model='piix3-uhci'/>"
        + TABLET
        + on_port("1.2.1")
        + on_port("1.2", hub)
        + on_port("1", hub)
    )
    with running(domain(devices, machine="pc"), tmp_path) as vm:
        assert {"hub1": "1", "hub0": "1.2", "input1": "1.2.1", "input0": "2"} == usb_ports(vm)


def test_more_devices_than_ports(tmp_path: Path) -> None:
    """QEMU adds the hubs that it needs."""
    with running(domain(TABLET * 12, machine="pc"), tmp_path) as vm:
        assert 12 == len(usb_ports(vm))
