# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a person types and points with."""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.applicable import check_address, refuse_others
from bpferry.commandline.context import Context, unsupported, virtio_properties
from bpferry.commandline.parts import Device, Option, Part, Slot, json_of
from bpferry.domain.architectures import is_pc
from bpferry.domain.model.inputs import Input
from bpferry.domain.names import named

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
    for key, input_id, device in named(context.machine.inputs, "inputs", "input"):
        bus = _bus(device, context)
        if device.type == "evdev":
            yield _host_device(device, key, input_id)
        elif device.type == "passthrough" and bus != "virtio":
            raise unsupported(f"{key}.bus", "passing a device of the host on needs bus virtio")
        elif bus == "ps2":
            _check_ps2(device, key, context)
        elif bus == "usb":
            refuse_others(device, key, OF_ALL | {"address"}, "an input device on USB")
            check_address(device, key, "usb")
            yield Device(USB_DRIVERS[device.type], input_id, key, {}, Slot.USB, device.address)
        else:
            yield _virtio(device, key, input_id, context)


def _bus(device: Input, context: Context) -> str:
    """Return the bus of *device*, which libvirt chooses where none is given."""
    if device.bus is not None:
        return device.bus
    if device.type == "passthrough":
        return "virtio"
    pc = is_pc(context.capabilities.arch)
    return "ps2" if pc and device.type in ("mouse", "keyboard") else "usb"


def _check_ps2(device: Input, key: str, context: Context) -> None:
    """Raise Unsupported unless the machine has *device* already."""
    refuse_others(device, key, OF_ALL, "an input device on PS/2")
    if device.type == "tablet":
        raise unsupported(f"{key}.bus", "PS/2 has mice and keyboards", "take a tablet on usb")
    if context.family not in WITH_PS2:
        raise unsupported(
            key, f"the machine '{context.machine_type}' has no PS/2", "take one on usb or virtio"
        )


def _virtio(device: Input, key: str, input_id: str, context: Context) -> Device:
    passed_on = device.type == "passthrough"
    meaningful = OF_ALL | VIRTIO | ({"evdev"} if passed_on else set())
    refuse_others(device, key, meaningful, "an input device on virtio")
    check_address(device, key, "pci")
    if passed_on and device.evdev is None:
        raise unsupported(key, "it names no device of the host", "name one (evdev)")
    properties = {**virtio_properties(device), "evdev": device.evdev}
    driver = context.virtio(VIRTIO_DRIVERS[device.type])
    return Device(driver, input_id, key, properties, Slot.EXPRESS, device.address)


def _host_device(device: Input, key: str, input_id: str) -> Option:
    """Return what reads the host's *device*; it is no device of the guest's."""
    refuse_others(device, key, {"type", "alias"} | GRABBING, "an input of type 'evdev'")
    if device.device is None:
        raise unsupported(key, "it names no device of the host", "name one (device)")
    described = {
        "qom-type": "input-linux",
        "id": input_id,
        "evdev": device.device,
        "repeat": device.repeat,
        "grab_all": True if device.grab == "all" else None,
        "grab-toggle": device.grab_toggle,
    }
    return Option("-object", json_of(described))
