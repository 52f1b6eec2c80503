# SPDX-License-Identifier: LGPL-2.1-or-later
"""Input devices, and the USB ports and hubs that they hang on."""

import pytest

from bpferry.commandline.buses.usb import usb_places
from bpferry.commandline.parts import Slot
from bpferry.errors import Unsupported
from tests.client.commandline.display_parts import (
    context_of,
    devices_in,
    drivers,
    objects,
    parts_of,
    properties,
)
from tests.client.refusals import refusal_of

TABLET = "<input type='tablet' bus='usb'/>"
UHCI = "<controller type='usb' index='0' model='piix3-uhci'/>"
XHCI = "<controller type='usb' index='0' model='qemu-xhci'/>"


def on_port(port: str, what: str = "<input type='mouse' bus='usb'>{}</input>", bus: int = 0) -> str:
    """Return the device *what* with a USB address."""
    return what.format(f"<address type='usb' bus='{bus}' port='{port}'/>")


def hub(port: str) -> str:
    """Return a hub with a USB address."""
    return on_port(port, "<hub type='usb'>{}</hub>")


def ports_of(text: str) -> dict[str, tuple[object, object]]:
    """Return bus and port of each USB device of *text*."""
    found = {}
    for device, place in usb_places(devices_in(parts_of(text)), context_of(text)):
        if isinstance(place, Unsupported):
            raise place
        found[device.id] = (place["bus"], place["port"])
    return found


@pytest.mark.parametrize(
    ("kind", "bus", "driver", "slot"),
    [
        ("mouse", "usb", "usb-mouse", Slot.USB),
        ("tablet", "usb", "usb-tablet", Slot.USB),
        ("keyboard", "usb", "usb-kbd", Slot.USB),
        ("mouse", "virtio", "virtio-mouse-pci", Slot.EXPRESS),
        ("tablet", "virtio", "virtio-tablet-pci", Slot.EXPRESS),
        ("keyboard", "virtio", "virtio-keyboard-pci", Slot.EXPRESS),
    ],
)
def test_device(kind: str, bus: str, driver: str, slot: Slot) -> None:
    """Each kind on each bus is a device of its own."""
    (device,) = devices_in(parts_of(f"<input type='{kind}' bus='{bus}'/>"))

    assert (driver, "input0", slot) == (device.driver, device.id, device.slot)


@pytest.mark.parametrize("kind", ["mouse", "keyboard"])
@pytest.mark.parametrize("bus", ["", "bus='ps2'"])
def test_device_of_the_machine_itself(kind: str, bus: str) -> None:
    """A PC has a mouse and a keyboard on PS/2, and these are what is meant without a bus."""
    assert [] == drivers(parts_of(f"<input type='{kind}' {bus}/>"))


def test_tablet_is_usually_on_usb() -> None:
    """There is none on PS/2."""
    assert ["usb-tablet"] == drivers(parts_of("<input type='tablet'/>"))


def test_device_passed_on() -> None:
    """The guest drives a device of the host, with the options of virtio."""
    inner = "<source evdev='/dev/input/event3'/><driver ats='on'/>"
    (device,) = devices_in(parts_of(f"<input type='passthrough' bus='virtio'>{inner}</input>"))

    assert "virtio-input-host-pci" == device.driver
    assert {"evdev": "/dev/input/event3", "ats": True} == properties(device)


def test_device_of_the_host() -> None:
    """What is typed there goes to the guest's own devices, or to the host again."""
    inner = "<source dev='/dev/input/event1' grab='all' grabToggle='ctrl-ctrl' repeat='on'/>"

    assert [
        {
            "qom-type": "input-linux",
            "id": "input0",
            "evdev": "/dev/input/event1",
            "repeat": True,
            "grab_all": True,
            "grab-toggle": "ctrl-ctrl",
        }
    ] == objects(parts_of(f"<input type='evdev'>{inner}</input>"), "-object")


@pytest.mark.parametrize(
    ("text", "element"),
    [
        ("<input type='tablet' bus='ps2'/>", "inputs[0].bus"),
        ("<input type='mouse' bus='ps2'><driver ats='on'/></input>", "inputs[0].ats"),
        ("<input type='mouse' bus='usb'><driver ats='on'/></input>", "inputs[0].ats"),
        ("<input type='mouse' bus='usb' model='virtio'/>", "inputs[0].model"),
        ("<input type='mouse' bus='usb'><address type='pci' bus='0' slot='9'/></input>",
         "inputs[0].address"),
        ("<input type='mouse' bus='virtio'><source evdev='/e'/></input>", "inputs[0].evdev"),
        ("<input type='passthrough' bus='usb'><source evdev='/e'/></input>", "inputs[0].bus"),
        ("<input type='passthrough' bus='virtio'/>", "inputs[0]"),
        ("<input type='evdev'/>", "inputs[0]"),
        ("<input type='evdev' bus='usb'><source dev='/e'/></input>", "inputs[0].bus"),
    ],
)  # fmt: skip
def test_refused(text: str, element: str) -> None:
    """What cannot be done is refused by its name."""
    assert element == refusal_of(parts_of, text).element


def test_machine_without_ps2() -> None:
    """It is refused where the machine has none."""
    assert "inputs[0]" == refusal_of(parts_of, "<input type='mouse' bus='ps2'/>", "microvm").element


def test_ports_are_left_to_qemu() -> None:
    """Without any address, QEMU hands the ports out, and adds hubs as it needs them."""
    assert {"input0": ("usb.0", None), "input1": ("usb.0", None)} == ports_of(TABLET * 2)


def test_ports_beside_addresses() -> None:
    """A device without an address gets no port that another one names."""
    assert {
        "input0": ("usb.0", "1"),
        "input1": ("usb.0", "2"),
        "input2": ("usb.0", "4"),
        "input3": ("usb.0", "3"),
    } == ports_of(XHCI + TABLET + on_port("2") + TABLET + on_port("3"))


def test_hub_comes_before_what_hangs_on_it() -> None:
    """Also where the document has it later, and on another hub."""
    parts = parts_of(on_port("1.2.3") + hub("1.2") + hub("1"))

    assert ["hub1", "hub0", "input0"] == [device.id for device in devices_in(parts)]


def test_ports_of_hubs() -> None:
    """When the controller has no port left, those of the hub are next."""
    found = ports_of(UHCI + hub("1") + on_port("2") + on_port("1.1") + TABLET)

    assert ("usb.0", "1.2") == found["input2"]


def test_controller_with_more_ports() -> None:
    """Their number is the controller's."""
    controller = "<controller type='usb' index='0' model='qemu-xhci' ports='15'/>"

    assert {"input0": ("usb.0", "15")} == ports_of(controller + on_port("15"))


def test_controller_with_a_name() -> None:
    """The bus is called after its controller."""
    named = "<controller type='usb' index='0' model='ehci'><alias name='ua-usb'/></controller>"

    assert {"input0": ("ua-usb.0", None)} == ports_of(named + TABLET)


@pytest.mark.parametrize(
    ("text", "element"),
    [
        (on_port("1") + on_port("1"), "inputs[1].address"),
        (on_port("1.1"), "inputs[0].address"),
        (XHCI + on_port("5"), "inputs[0].address"),
        (hub("1") + on_port("1.9"), "inputs[0].address"),
        (on_port("0"), "inputs[0].address"),
        (on_port("1", bus=3), "inputs[0]"),
        (XHCI + on_port("1") + TABLET * 4, "inputs[4]"),
    ],
)
def test_port_that_cannot_be(text: str, element: str) -> None:
    """It is refused before QEMU is started."""
    with pytest.raises(Unsupported) as caught:
        ports_of(text)

    assert element == caught.value.element
