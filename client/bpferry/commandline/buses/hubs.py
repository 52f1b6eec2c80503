# SPDX-License-Identifier: LGPL-2.1-or-later
"""USB hubs: before all that may hang on them."""

from collections.abc import Iterator

from bpferry.commandline.applicable import check_address
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device, Part, Slot
from bpferry.domain.names import named


def parts(context: Context) -> Iterator[Part]:
    """Yield the hubs, one that hangs on another after it."""
    hubs = []
    for device in named(context.machine.hubs, "hubs", "hub"):
        check_address(device, "usb")
        hubs.append(Device("usb-hub", device.id, device.key, {}, Slot.USB, device.value.address))
    yield from sorted(hubs, key=_depth)


def _depth(hub: Device) -> int:
    port = hub.address.port if hub.address else None
    return (port or "").count(".")
