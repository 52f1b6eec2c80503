# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which USB port each device gets.

Where no device of a bus has a port in the document, QEMU hands them out, and adds hubs when they
run out. Otherwise it could give away a port that a later device is to have, so that all are handed
out here: those of the controller, then those of the document's hubs.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from bpferry.commandline.buses.controller_ids import bus_of, find_controller
from bpferry.commandline.context import Context, unsupported
from bpferry.commandline.parts import Device, Slot

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
"""Of each model of a controller (hw/usb/hcd-*.c), where no other number is given."""

FEWEST_PORTS: Final = 2
HUB_PORTS: Final = 8
"""hw/usb/dev-hub.c."""

PORT: Final = re.compile(r"[1-9]\d*(\.[1-9]\d*){0,4}")
"""A port of the controller, then those of hubs, up to five deep (USB 2.0, 4.1.1)."""


def usb_places(devices: Sequence[Device], context: Context) -> Mapping[str, dict[str, object]]:
    """Return the properties that say where those of *devices* are that sit on USB, by id.

    Raises:
        Unsupported: a port is there twice or not at all, or there are not enough.
    """
    on_usb = [device for device in devices if device.slot is Slot.USB]
    places: dict[str, dict[str, object]] = {}
    for index in sorted({_index(device) for device in on_usb}):
        of_bus = [device for device in on_usb if _index(device) == index]
        _check_controller(of_bus[0], index, context)
        bus = f"{bus_of(context.machine, 'usb', index)}.0"
        ports = _ports(of_bus, _root_ports(index, context))
        places |= {device.id: {"bus": bus, "port": ports[device.id]} for device in of_bus}
    return places


def _index(device: Device) -> int:
    return (device.address.bus if device.address else None) or 0


def _given(device: Device) -> str | None:
    return device.address.port if device.address else None


def _check_controller(device: Device, index: int, context: Context) -> None:
    found = find_controller(context.machine, "usb", index)
    if found is None or found.model == "none":
        raise unsupported(
            device.key, f"there is no USB controller {index} for it", "add one, or take it out"
        )


def _root_ports(index: int, context: Context) -> int:
    """Return how many ports the controller has."""
    found = find_controller(context.machine, "usb", index)
    if found is None:
        return FEWEST_PORTS
    return found.ports or PORTS.get(found.model or "piix3-uhci", FEWEST_PORTS)


def _ports(devices: Sequence[Device], root_ports: int) -> dict[str, str | None]:
    """Return the port of each of the *devices* of one bus; None leaves it to QEMU."""
    given = {device.id: port for device in devices if (port := _given(device)) is not None}
    if not given:
        return {device.id: None for device in devices}
    holders = _holders(devices)
    hubs = {port for port, holder in holders.items() if holder.driver == "usb-hub"}
    for port, holder in holders.items():
        _check_port(port, holder, hubs, root_ports)
    free = _free_ports(root_ports, hubs, set(holders))
    result: dict[str, str | None] = dict(given)
    for device in devices:
        if device.id not in given:
            result[device.id] = next(free, None)
            if result[device.id] is None:
                raise unsupported(
                    device.key,
                    "there is no USB port left beside those that other devices name",
                    "add a hub with an address, or take the addresses out and leave them to QEMU",
                )
    return result


def _holders(devices: Sequence[Device]) -> dict[str, Device]:
    """Return the device of each port that is named."""
    holders: dict[str, Device] = {}
    for device in devices:
        port = _given(device)
        if port is None:
            continue
        if port in holders:
            raise unsupported(
                f"{device.key}.address", f"'{holders[port].id}' has the USB port {port} already"
            )
        holders[port] = device
    return holders


def _check_port(port: str, device: Device, hubs: set[str], root_ports: int) -> None:
    key = f"{device.key}.address"
    if not PORT.fullmatch(port):
        raise unsupported(key, f"'{port}' is no USB port such as 2 or 1.3")
    above, _, last = port.rpartition(".")
    if above and above not in hubs:
        raise unsupported(key, f"there is no hub at the USB port {above}", "add one there")
    most = HUB_PORTS if above else root_ports
    if int(last) > most:
        raise unsupported(key, f"there are {most} ports where it asks for number {last}")


def _free_ports(root_ports: int, hubs: set[str], taken: set[str]) -> Iterator[str]:
    """Yield the ports of the controller and of its *hubs* that nobody has."""
    for above, count in (("", root_ports), *((f"{hub}.", HUB_PORTS) for hub in sorted(hubs))):
        for number in range(1, count + 1):
            if f"{above}{number}" not in taken:
                yield f"{above}{number}"
