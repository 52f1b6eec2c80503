# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a person types and points with."""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.applicable import check_address, refuse_others
from bpferry.commandline.attempt import attempt
from bpferry.commandline.context import Context, virtio_properties
from bpferry.commandline.parts import Device, Found, Option, Part, Slot, json_of
from bpferry.domain.architectures import is_pc
from bpferry.domain.model.inputs import Input
from bpferry.domain.names import Named, named
from bpferry.errors import Unsupported

USB_DRIVERS: Final = {"mouse": "usb-mouse", "tablet": "usb-tablet", "keyboard": "usb-kbd"}

VIRTIO_DRIVERS: Final = {
    "mouse": "virtio-mouse",
    "tablet": "virtio-tablet",
    "keyboard": "virtio-keyboard",
    "passthrough": "virtio-input-host",
}

OF_ALL: Final = frozenset({"type", "bus", "alias"})
VIRTIO: Final = frozenset({"model", "address", "iommu", "ats", "packed", "page_per_vq"})
GRABBING: Final = frozenset({"device", "grab", "grab_toggle", "repeat"})

WITH_PS2: Final = ("pc", "q35", "isapc")
"""Machine families with a controller for PS/2 (i8042), which has a mouse and a keyboard."""


def parts(context: Context) -> Iterator[Part]:
    """Yield the input devices that are not the machine's own."""
    for part in named(context.machine.inputs, "inputs", "input"):
        yield from attempt(_input, part, context)


def _input(part: Named[Input], context: Context) -> Iterator[Found]:
    device = part.value
    bus = _bus(device, context)
    if device.type == "evdev":
        yield from _host_device(part)
    elif device.type == "passthrough" and bus != "virtio":
        yield part.mistake(
            "bus", "passing on a device of the host needs the bus virtio", "write the bus 'virtio'"
        )
    elif bus == "ps2":
        yield from _check_ps2(part, context)
    elif bus == "usb":
        yield from refuse_others(part, OF_ALL | {"address"}, "an input device on USB")
        yield from check_address(part, "usb")
        yield Device(
            USB_DRIVERS[device.type], part.id, part.key, {}, slot=Slot.USB, address=device.address
        )
    else:
        yield from _virtio(part, context)


def _bus(device: Input, context: Context) -> str:
    """Return the bus of *device*; if none is given, the one that libvirt chooses."""
    if device.bus is not None:
        return device.bus
    if device.type == "passthrough":
        return "virtio"
    pc = is_pc(context.capabilities.arch)
    return "ps2" if pc and device.type in ("mouse", "keyboard") else "usb"


def _check_ps2(part: Named[Input], context: Context) -> Iterator[Unsupported]:
    """Refuse an input on PS/2 that the machine does not have already."""
    device = part.value
    yield from refuse_others(part, OF_ALL, "an input device on PS/2")
    if device.type == "tablet":
        yield part.mistake("bus", "PS/2 has only mice and keyboards", "put the tablet on usb")
    if context.family not in WITH_PS2:
        yield part.refusal(
            "", f"the machine '{context.machine_type}' has no PS/2", "use usb or virtio"
        )


def _virtio(part: Named[Input], context: Context) -> Iterator[Found]:
    device = part.value
    passed_on = device.type == "passthrough"
    meaningful = OF_ALL | VIRTIO | ({"evdev"} if passed_on else set())
    yield from refuse_others(part, meaningful, "an input device on virtio")
    yield from check_address(part, "pci")
    if passed_on and device.evdev is None:
        yield part.mistake("", "the device of the host is missing", "name one (evdev)")
    properties = {**virtio_properties(device), "evdev": device.evdev}
    driver = context.virtio(VIRTIO_DRIVERS[device.type])
    yield Device(driver, part.id, part.key, properties, slot=Slot.EXPRESS, address=device.address)


def _host_device(part: Named[Input]) -> Iterator[Found]:
    """Yield the object that reads the host's device; it is not a device of the guest."""
    device = part.value
    yield from refuse_others(part, {"type", "alias"} | GRABBING, "an input of type 'evdev'")
    if device.device is None:
        yield part.mistake("", "the device of the host is missing", "name one (device)")
    described = {
        "qom-type": "input-linux",
        "id": part.id,
        "evdev": device.device,
        "repeat": device.repeat,
        "grab_all": True if device.grab == "all" else None,
        "grab-toggle": device.grab_toggle,
    }
    yield Option("-object", json_of(described))
