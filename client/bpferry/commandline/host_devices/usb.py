# SPDX-License-Identifier: LGPL-2.1-or-later
"""USB devices of the host (usb-host; hw/usb/host-libusb.c of QEMU 10.0).

bpferry finds the device and opens its node, and QEMU finds that in a set of fds: so it is exactly
the one that was found, as with libvirt. A usb-host that names no device, or only a kind of device,
would take anything on the host that matches, whenever it is plugged in.
"""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device, Found, OpenDevice, Option, Remark, Slot, join
from bpferry.commandline.system.boot import boot_indexes
from bpferry.domain.model.host_devices import HostDevice
from bpferry.domain.names import Named
from bpferry.errors import Unsupported

FIRST_SET: Final = 1000
"""Sets of fds below this number belong to character devices."""

RESETS: Final[dict[str | None, dict[str, object]]] = {
    None: {},
    "off": {"guest-reset": False},
    "uninitialized": {"guest-reset": True, "guest-resets-all": False},
    "on": {"guest-reset": True, "guest-resets-all": True},
}
"""When QEMU passes on that the guest resets the device."""


def usb_parts(device: Named[HostDevice], context: Context) -> Iterator[Found]:
    """Yield the device; one that is optional and not there is left out."""
    yield from _check(device)
    wanted = device.value
    node = context.host_nodes.get(wanted.which)
    if node is not None and node.is_absent and wanted.startup_policy == "optional":
        yield Remark(f"the guest goes without it: {node.problem}", "", device.key)
        return
    name, number = f"{device.id}.usb", FIRST_SET + device.number
    yield OpenDevice(name, node.path if node else "", device.key)
    yield Option("-add-fd", join("", set=number, fd=context.fd(name), opaque=name))
    properties: dict[str, object] = {
        "hostdevice": f"/dev/fdset/{number}",
        "bootindex": boot_indexes(context.machine).get(device.key),
        **RESETS[wanted.guest_reset],
    }
    yield Device(
        "usb-host", device.id, device.key, properties, slot=Slot.USB, address=wanted.address
    )


def _check(device: Named[HostDevice]) -> Iterator[Unsupported]:
    wanted = device.value
    if (wanted.vendor is None) is not (wanted.product is None):
        yield device.mistake("", "a vendor goes with a product", "name both, as 'lsusb' shows them")
    if wanted.at is None:
        if wanted.vendor is None and wanted.product is None:
            yield device.mistake("", "no device is named", "name its vendor and product")
        return
    if wanted.at.bus is None or wanted.at.device is None:
        yield device.mistake(
            "at", "a place on USB is a bus and a device", "name both, as 'lsusb' shows them"
        )
    if wanted.at.domain or wanted.at.slot or wanted.at.function or wanted.at.uuid:
        yield device.mistake(
            "at",
            "a place on USB is a bus and a device, and nothing else",
            "leave out all but the bus and the device",
        )
