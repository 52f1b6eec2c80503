# SPDX-License-Identifier: LGPL-2.1-or-later
"""The serial ports of a VM that runs, and where each one is."""

import shlex
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from bpferry.commandline.characters.ports import serial_ports
from bpferry.commandline.parts import Endpoint
from bpferry.domain.model.characters import Console, Serial
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import Named, named
from bpferry.errors import BadInput, NotReady
from bpferry.machine.endpoints import describe

Device = Named[Serial] | Named[Console]

OPENED: Final = ("stdio", "pty", "unix")
"""The types at which `bpferry console` can be. A socket has to be one that QEMU listens on."""

ADD: Final = (
    "a serial port with type = \"stdio\" in [[serials]], or <serial type='stdio'/>, can be reached "
    "like this as long as the VM runs"
)

PLACES: Final = {
    "null": "what it writes is thrown away",
    "vc": "it is shown in QEMU's own window",
    "file": "it writes into the file '{path}'",
    "dev": "it is the host's device '{path}'",
    "unix": "it connects to the socket '{path}'",
    "spiceport": "it is a channel of SPICE",
    "dbus": "it is a channel of the D-Bus display",
}
"""Where the other types are. Those with an endpoint are described by it."""


class Port(NamedTuple):
    """One serial port, or one virtio console."""

    name: str
    type: str
    place: str
    """Where it is, in words."""
    endpoint: Endpoint | None = None

    @property
    def is_open(self) -> bool:
        """Whether `bpferry console` can be there."""
        return self.type in OPENED and (self.type == "stdio" or self.endpoint is not None)


def ports_of(machine: Machine, endpoints: Sequence[Endpoint]) -> list[Port]:
    """Return the ports of *machine*, which offers *endpoints*."""
    devices: list[Device] = [*serial_ports(machine), *_virtio_consoles(machine)]
    reached = {endpoint.chardev: endpoint for endpoint in endpoints if endpoint.chardev}
    return [_port(device, reached.get(f"char{device.id}")) for device in devices]


def _virtio_consoles(machine: Machine) -> Iterator[Named[Console]]:
    for console in named(machine.consoles, "consoles", "console"):
        if console.value.target == "virtio":
            yield console


def _port(device: Device, endpoint: Endpoint | None) -> Port:
    character = device.value
    path = character.sources[0].path if character.sources else None
    place = PLACES.get(character.type, "it is of type '{type}'")
    if endpoint is not None:
        place = f"it is at {describe(endpoint).partition(': ')[2]}"
    elif character.type == "stdio":
        place = "it is at bpferry"
    words = place.format(path=path or "?", type=character.type)
    return Port(device.id, character.type, words, endpoint)


def choose(ports: Sequence[Port], name: str | None, vm_name: str) -> Port:
    """Return the port called *name*; if that is None, the one at bpferry, or else the only one.

    Raises:
        BadInput: there is no such port, or it is not clear which one is meant.
        NotReady: nobody can be at it.
    """
    if name is not None:
        found = next((port for port in ports if port.name == name), None)
        if found is None:
            raise BadInput(f"'{vm_name}' has no serial port '{name}'", _list(ports))
        return _check(found, vm_name)
    at_bpferry = [port for port in ports if port.type == "stdio"]
    possible = at_bpferry or [port for port in ports if port.is_open] or list(ports)
    if not possible:
        raise NotReady(f"'{vm_name}' has no serial port", ADD)
    if len(possible) > 1:
        command = f"bpferry console --serial {possible[0].name} {shlex.quote(vm_name)}"
        raise BadInput(
            f"'{vm_name}' has {len(possible)} serial ports: {_names(possible)}",
            f"name the one that you mean, such as: {command}",
        )
    return _check(possible[0], vm_name)


def _check(port: Port, vm_name: str) -> Port:
    if port.is_open:
        return port
    raise NotReady(f"'{port.name}' of '{vm_name}' cannot be reached from here: {port.place}", ADD)


def _list(ports: Sequence[Port]) -> str:
    return f"it has: {_names(ports)}" if ports else ADD


def _names(ports: Sequence[Port]) -> str:
    return ", ".join(f"{port.name} ({port.place})" for port in ports)
