# SPDX-License-Identifier: LGPL-2.1-or-later
"""USB hubs: they come before everything that may be plugged into them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bpferry.commandline.applicable import check_address
from bpferry.commandline.attempt import attempt
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device, Found, Part, Slot
from bpferry.domain.names import Named, named

if TYPE_CHECKING:
    from bpferry.domain.model.inputs import Hub


def parts(context: Context) -> Iterator[Part]:
    """Yield the hubs, each after the one that it is plugged into."""
    for device in sorted(named(context.machine.hubs, "hubs", "hub"), key=_depth):
        yield from attempt(_hub, device, context)


def _hub(device: "Named[Hub]", _: Context) -> Iterator[Found]:
    yield from check_address(device, "usb")
    yield Device("usb-hub", device.id, device.key, {}, slot=Slot.USB, address=device.value.address)


def _depth(device: "Named[Hub]") -> int:
    where = device.value.address
    return ((where.port if where else None) or "").count(".")
