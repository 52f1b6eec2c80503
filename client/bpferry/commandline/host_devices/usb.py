# SPDX-License-Identifier: LGPL-2.1-or-later
"""USB devices of the host (usb-host; hw/usb/host-libusb.c of QEMU 10.0)."""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device, Found, HostUsb, Slot
from bpferry.commandline.system.boot import boot_indexes
from bpferry.domain.model.host_devices import HostDevice
from bpferry.domain.names import Named
from bpferry.errors import Unsupported

RESETS: Final[dict[str | None, dict[str, object]]] = {
    None: {},
    "off": {"guest-reset": False},
    "uninitialized": {"guest-reset": True, "guest-resets-all": False},
    "on": {"guest-reset": True, "guest-resets-all": True},
}
"""When QEMU passes on that the guest resets the device."""


def usb_parts(device: Named[HostDevice], context: Context) -> Iterator[Found]:
    """Yield the device, by its place or by what it is."""
    yield from _check(device)
    wanted = device.value
    node = _node(wanted)
    optional = wanted.startup_policy == "optional"
    by_kind = node is None
    if node is not None or wanted.vendor is not None:
        yield HostUsb(device.key, node, wanted.vendor, wanted.product, optional)
    properties: dict[str, object] = {
        "hostdevice": node,
        "vendorid": wanted.vendor if by_kind else None,
        "productid": wanted.product if by_kind else None,
        "bootindex": boot_indexes(context.machine).get(device.key),
        **RESETS[wanted.guest_reset],
    }
    yield Device("usb-host", device.id, device.key, properties, Slot.USB, wanted.address)


def _node(wanted: HostDevice) -> str | None:
    """Return the device's node, if the document says its place."""
    if wanted.at is None:
        return None
    if wanted.at.bus is None or wanted.at.device is None:
        return None
    return f"/dev/bus/usb/{wanted.at.bus:03}/{wanted.at.device:03}"


def _check(device: Named[HostDevice]) -> Iterator[Unsupported]:
    wanted = device.value
    if (wanted.vendor is None) is not (wanted.product is None):
        yield device.refusal("", "a vendor goes with a product")
    if wanted.at is None:
        # One that is optional and was not found has neither (machine.host_devices).
        if wanted.vendor is None and wanted.startup_policy != "optional":
            yield device.refusal("", "it is not said which device", "name its vendor and product")
        return
    if wanted.at.bus is None or wanted.at.device is None:
        yield device.refusal("at", "a place on USB is a bus and a device")
    if wanted.at.domain or wanted.at.slot or wanted.at.function or wanted.at.uuid:
        yield device.refusal("at", "a place on USB is a bus and a device, and nothing else")
