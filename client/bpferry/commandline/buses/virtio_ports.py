# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which port of which virtio-serial controller each console and channel gets.

Complete addresses of the document are kept. Then come the consoles without one, and then the
channels, each at the first free port, in the order of the controllers' numbers. Port 0 is for
consoles only (hw/char/virtio-serial-bus.c). If all ports are taken, one more controller is added,
as in libvirt.

If no kind of device is to move another, consoles after the first count down from the last port.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from bpferry.commandline.buses.controller_ids import bus_of
from bpferry.domain.model.base import Address
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import Named, named

if TYPE_CHECKING:
    from bpferry.domain.model.characters import Channel, Console

MAX_PORTS: Final = 31
"""Ports of a controller if the document does not say how many: QEMU's own default."""


class Place(Struct, frozen=True):
    """One port."""

    controller: int
    number: int


def virtio_places(machine: Machine) -> dict[str, Place]:
    """Return the port of each virtio console and channel, by its key, such as ``channels[0]``.

    The controllers in it are those that the VM needs, whether the document has them or not.

    Raises:
        Unsupported: an address is impossible.
    """
    ports = _Ports(machine)
    waiting = list(_users(machine))
    for device in waiting:
        ports.keep(device)
    for device in waiting:
        if device.key not in ports.places:
            ports.find(device)
    return ports.places


def controllers_needed(machine: Machine) -> tuple[int, ...]:
    """Return the numbers of the virtio-serial controllers that ports are on."""
    return tuple(sorted({place.controller for place in virtio_places(machine).values()}))


def _users(machine: Machine) -> "Iterator[Named[Console | Channel]]":
    for console in named(machine.consoles, "consoles", "console"):
        if console.value.target == "virtio":
            yield console
    for channel in named(machine.channels, "channels", "channel"):
        if channel.value.target == "virtio":
            yield channel


class _Ports:
    """The controllers and their ports while places are given out."""

    def __init__(self, machine: Machine) -> None:
        self.places: dict[str, Place] = {}
        self._taken: set[Place] = set()
        self._downwards = machine.device_addresses == "by-kind"
        self._sizes = dict(_controllers(machine))
        for device in _users(machine):
            where = device.value.address
            self._sizes.setdefault((where.controller if where else None) or 0, MAX_PORTS)

    def keep(self, device: "Named[Console | Channel]") -> None:
        """Give *device* the port that its document names, if it names one."""
        if device.value.address is None:
            return
        address = device.part("address", device.value.address)
        where = address.value
        if where.type != "virtio-serial":
            raise address.mistake(
                "type",
                "its address has to be of type 'virtio-serial'",
                "write 'virtio-serial', or leave the address out",
            )
        number = _number(address)
        # Without a port the address is incomplete, and its bus is not kept.
        if number and where.bus:
            raise address.mistake(
                "bus", "a virtio-serial controller has one bus, 0", "write 0, or leave the bus out"
            )
        if number:
            self._take(device, Place(where.controller or 0, number), "address.port")

    def find(self, device: "Named[Console | Channel]") -> None:
        """Give *device* a free port, on the controller of its address if there is one."""
        from bpferry.domain.model.characters import Console  # noqa: PLC0415 - not for all VMs

        console = isinstance(device.value, Console)
        address = device.value.address
        if address is not None:
            place = self._free(address.controller or 0, console=console)
            if place is None:
                raise device.refusal(
                    "address.controller",
                    "all its ports are taken",
                    "add another virtio-serial controller, or leave the controller out",
                )
        else:
            found = (self._free(number, console=console) for number in sorted(self._sizes))
            place = next((one for one in found if one), None) or self._on_new_controller(
                console=console
            )
        self._take(device, place, "")

    def _free(self, controller: int, *, console: bool) -> Place | None:
        last = self._sizes[controller] - 1
        if console:
            others = range(last, 0, -1) if self._downwards else range(1, last + 1)
            numbers = [0, *others]
        else:
            numbers = list(range(1, last + 1))
        places = (Place(controller, port) for port in numbers if port <= last)
        return next((place for place in places if place not in self._taken), None)

    def _on_new_controller(self, *, console: bool) -> Place:
        index = next(number for number in range(len(self._sizes) + 1) if number not in self._sizes)
        self._sizes[index] = MAX_PORTS
        return Place(index, 0 if console else 1)

    def _take(self, device: "Named[Console | Channel]", place: Place, field: str) -> None:
        size = self._sizes[place.controller]
        if place.number >= size:
            raise device.mistake(
                field,
                f"its controller has the ports 0 to {size - 1}",
                f"write a port from 0 to {size - 1}, or leave it out",
            )
        if place in self._taken:
            raise device.mistake(
                field,
                f"another console or channel has port {place.number}",
                "give it another port, or leave the port out",
            )
        self._taken.add(place)
        self.places[device.key] = place


def _controllers(machine: Machine) -> Iterator[tuple[int, int]]:
    """Yield number and ports of each virtio-serial controller; numbers count up from 0."""
    following = 0
    for controller in machine.controllers:
        if controller.type == "virtio-serial":
            index = following if controller.index is None else controller.index
            following = max(following, index + 1)
            yield index, controller.ports or MAX_PORTS


def _number(address: Named[Address]) -> int:
    try:
        return int(address.value.port or "0", 0)
    except ValueError:
        raise address.mistake(
            "port", "the port has to be a number", "write a number, or leave the port out"
        ) from None


def properties_of(place: Place, machine: Machine) -> dict[str, object]:
    """Return where a device on *place* sits."""
    bus = bus_of(machine, "virtio-serial", place.controller)
    return {"bus": f"{bus}.0", "nr": place.number}
