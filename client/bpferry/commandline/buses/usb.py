# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which USB port each device gets.

If no device of a bus has a port in the document, QEMU assigns them, and adds hubs when they run
out. Otherwise QEMU could give away a port that a later device needs, so all of them are assigned
here: those of the controller, then those of the document's hubs.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from bpferry.commandline.buses.controller_ids import bus_of, find_controller
from bpferry.commandline.context import Context, mistaken, unsupported
from bpferry.commandline.parts import Device, Slot
from bpferry.errors import Unsupported

PORTS: Final = {
    "piix3-uhci": 2,
    "piix4-uhci": 2,
    "vt82c686b-uhci": 2,
    "pci-ohci": 3,
    "ehci": 6,
    "ich9-ehci1": 6,
    "nec-xhci": 4,
    "qemu-xhci": 4,
}
"""The number of ports of each model of controller by default (hw/usb/hcd-*.c)."""

FEWEST_PORTS: Final = 2
HUB_PORTS: Final = 8
"""hw/usb/dev-hub.c."""

PORT: Final = r"[1-9]\d*(\.[1-9]\d*){0,4}"
"""A port of the controller, then those of hubs, up to five deep (USB 2.0, 4.1.1)."""


Place = dict[str, object]
"""The properties that say where a device sits on USB."""


def usb_places(
    devices: Sequence[Device], context: Context
) -> Iterator[tuple[Device, Place | Unsupported]]:
    """Yield those of *devices* that are on USB with their places.

    A place may be refused: a port is used twice or does not exist, or there are not enough. A
    device whose own port is refused gets another place after that.
    """
    on_usb = [device for device in devices if device.slot is Slot.USB]
    for index in sorted({_index(device) for device in on_usb}):
        of_bus = [device for device in on_usb if _index(device) == index]
        if _has_controller(index, context):
            bus = f"{bus_of(context.machine, 'usb', index)}.0"
            for device, port in _ports(of_bus, _root_ports(index, context)):
                if isinstance(port, Unsupported):
                    yield device, port
                else:
                    yield device, {"bus": bus, "port": port}
            continue
        for device in of_bus:
            sentence = f"there is no USB controller {index} for it"
            yield device, unsupported(device.key, sentence, "add one, or remove the device")


def _index(device: Device) -> int:
    return (device.address.bus if device.address else None) or 0


def _given(device: Device) -> str | None:
    return device.address.port if device.address else None


def _has_controller(index: int, context: Context) -> bool:
    found = find_controller(context.machine, "usb", index)
    return found is not None and found.model != "none"


def _root_ports(index: int, context: Context) -> int:
    """Return how many ports the controller has."""
    found = find_controller(context.machine, "usb", index)
    if found is None:
        return FEWEST_PORTS
    return found.ports or PORTS.get(found.model or "piix3-uhci", FEWEST_PORTS)


def _ports(
    devices: Sequence[Device], root_ports: int
) -> Iterator[tuple[Device, str | Unsupported | None]]:
    """Yield the *devices* of one bus with their ports; None leaves it to QEMU."""
    holders: dict[str, Device] = {}
    waiting: list[Device] = []
    named = {_given(device) for device in devices} - {None}
    hubs = {port for one in devices if one.driver == "usb-hub" and (port := _given(one))}
    for device in devices:
        port = _given(device)
        if port is None:
            waiting.append(device)
            continue
        problem = _find_problem(port, holders, hubs, root_ports)
        if problem:
            waiting.append(device)
            yield device, mistaken(f"{device.key}.address", *problem)
        else:
            holders[port] = device
            yield device, port
    free = _free_ports(root_ports, hubs & set(holders), set(holders))
    for device in waiting:
        port = next(free, None) if named else None
        if named and port is None:
            yield (
                device,
                unsupported(
                    device.key,
                    "there is no USB port left beside those that other devices name",
                    "add a hub with an address, or remove the addresses and leave them to QEMU",
                ),
            )
        else:
            yield device, port


def _find_problem(
    port: str, holders: Mapping[str, Device], hubs: set[str], root_ports: int
) -> tuple[str, str] | None:
    """Return why a device cannot have *port*, and what to do about it."""
    if not re.fullmatch(PORT, port):
        return f"'{port}' is not a USB port, such as 2 or 1.3", "leave the address out"
    above, _, last = port.rpartition(".")
    if above and above not in hubs:
        return f"there is no hub at the USB port {above}", "add one there"
    most = HUB_PORTS if above else root_ports
    if int(last) > most:
        return f"there are {most} ports where it asks for number {last}", "take a lower number"
    if port in holders:
        return f"'{holders[port].id}' has the USB port {port} already", "take another one"
    return None


def _free_ports(root_ports: int, hubs: set[str], taken: set[str]) -> Iterator[str]:
    """Yield the ports of the controller and of its *hubs* that nobody has."""
    for above, count in (("", root_ports), *((f"{hub}.", HUB_PORTS) for hub in sorted(hubs))):
        for number in range(1, count + 1):
            if f"{above}{number}" not in taken:
                yield f"{above}{number}"
