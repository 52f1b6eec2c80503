# SPDX-License-Identifier: LGPL-2.1-or-later
"""Places on PCI as in libvirt, so that a guest that moves here keeps the names of its devices.

Addresses in the document are kept; then come devices that have a usual place, and then all others,
family by family: bridges, shared folders, cards, sound, controllers, disks and so on. There are two
rounds, as in libvirt (src/qemu/qemu_domain_address.c, qemuDomainAssignPCIAddresses). In the first,
buses are added where there is no room, and one more root port for what is plugged in later; this
shows which bridges there are. In the second, the bridges take part, and come first.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field
from msgspec.structs import replace

from bpferry.commandline.buses.drive_addresses import index_of as drive_index
from bpferry.commandline.buses.pci import Connect, Connection, Place
from bpferry.commandline.buses.topology import (
    FEWER,
    Topology,
    bridge,
    index_of,
    is_bridge,
)
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device, Slot
from bpferry.domain.model.machine import Machine
from bpferry.domain.remaining import numbered

if TYPE_CHECKING:
    from bpferry.domain.model.controllers import Controller

ORDER: Final = (
    "filesystems", "cards", "sounds", "controllers", "disks", "host-devices", "balloon", "rngs",
    "watchdogs", "videos", "graphics", "shared-memories", "inputs", "serials", "iommu", "vsock",
    "memory-devices", "cryptos", "panics", "pstore",
)  # fmt: skip
"""The order of families when places are given out (qemuDomainAssignDevicePCISlots). A graphics card
that the document does not name belongs to the display that needs it."""

ORDER_OF_GIVEN: Final = (
    "disks", "cards", "sounds", "host-devices", "videos", "controllers", "serials", "inputs",
    "filesystems", "watchdogs", "balloon", "rngs", "shared-memories", "panics", "memory-devices",
    "iommu", "vsock", "cryptos", "pstore",
)  # fmt: skip
"""The order of families when the document's own places are looked at: the first device on a bus
that is not there decides what kind of bus it becomes (virDomainDeviceInfoIterateFlags)."""

BEHIND_PORT: Final = Connect.EXPRESS | Connect.UPSTREAM_PORT | Connect.EXPRESS_BRIDGE
"""What a root port is added for. For a bridge, libvirt adds one only if a device needs it."""

NO_BUS: Final = "there is no such bus, and none can be added for it"

USUAL_FAMILIES: Final = ("controllers", "videos", "graphics", "sounds")
"""The order in which they take their usual places (qemuDomainValidateDevicePCISlotsQ35)."""


def place(devices: Sequence[Device], context: Context) -> tuple[Topology, tuple[Device, ...]]:
    """Return where each of *devices* is, and the bridges that were added for them."""
    first = _Round(Topology.of(context, devices), devices, may_grow=True)
    first.topology.fill_gaps()
    first.run()
    own = {index_of(device) for device in devices if is_bridge(device)}
    added = tuple(
        bridge(index, bus.name, context)
        for index, bus in sorted(first.topology.buses.items())
        if index and index not in own
    )
    everything = (*added, *devices)
    second = _Round(Topology.of(context, everything), everything, named=first.named)
    second.topology.refusals |= first.topology.refusals
    second.run()
    return second.topology, added


def in_order(devices: Sequence[Device], machine: Machine) -> list[Device]:
    """Return *devices* in the order in which places are given out."""
    controllers = _order_of_controllers(machine)
    disks = dict(numbered(machine.disks))

    def rank(device: Device) -> tuple[int, int]:
        if is_bridge(device):
            return -1, index_of(device)
        number = 0
        if device.family == "controllers":
            number = controllers.index(device.number)
        elif device.family == "disks":
            # They are sorted by their targets as soon as they are read (virDomainDiskInsert).
            number = drive_index(disks[device.number].target)
        return _index(device.family, ORDER), number

    return sorted(devices, key=rank)


def _order_of_controllers(machine: Machine) -> list[int]:
    """Return the places of controllers in their list, sorted (virDomainControllerInsert).

    Those of a type follow the first of it, by their indexes; of a USB 2 group, that with the bus
    comes first.
    """
    controllers = list(numbered(machine.controllers))
    types = list(dict.fromkeys(controller.type for _, controller in controllers))

    def rank(pair: "tuple[int, Controller]") -> tuple[int, int, bool]:
        _, controller = pair
        return (
            types.index(controller.type),
            controller.index or 0,
            controller.first_port is not None,
        )

    return [number for number, _ in sorted(controllers, key=rank)]


def _index(family: str, order: Sequence[str]) -> int:
    return order.index(family) if family in order else len(order)


class _Round(Struct):
    """One round: all places are given out, on the buses that there are."""

    topology: Topology
    devices: Sequence[Device]
    may_grow: bool = False
    """Whether this is the first round, in which buses are added."""
    named: dict[str, Place] = field(default_factory=dict)
    """Places that the document names, by the id of the device, once they are known."""
    _fixed: frozenset[str] = frozenset()
    """The ids of those whose places are the same in both rounds."""

    def run(self) -> None:
        """Give out all places."""
        topology = self.topology
        self._keep_named()
        topology.put_where_usual(
            sorted(
                (device for device in self.devices if device.family in USUAL_FAMILIES),
                key=lambda device: USUAL_FAMILIES.index(device.family),
            )
        )
        self._fixed = frozenset(topology.places)
        if self.may_grow:
            self._reserve_for_bridge()
        for device in self._waiting():
            self._put(device)
        if self.may_grow:
            self._reserve_for_hot_plug()
            self._reserve_for_added()

    def _keep_named(self) -> None:
        for device in sorted(self.devices, key=lambda one: _index(one.family, ORDER_OF_GIVEN)):
            if self.may_grow:
                self._name(device)
            if device.id in self.named:
                self.topology.keep(device, self.named[device.id])

    def _name(self, device: Device) -> None:
        """Note where the document puts *device*, and add the buses that this needs."""
        place = self.topology.place_named(device)
        if place is None:
            return
        bus = self._grow_to(place.bus, self.topology.connect_of(device))
        if bus is None:
            self.topology.refuse(
                f"{device.key}.address.bus", NO_BUS, "leave the bus out, or name one that exists"
            )
        else:
            self.named[device.id] = replace(place, bus=bus)

    def _waiting(self) -> Iterator[Device]:
        """Yield those without a place, in order; first the card that the firmware draws on."""
        waiting = [device for device in self.devices if device.id not in self.topology.places]
        first = [one for one in waiting if one.usual and one.family in ("videos", "graphics")]
        yield from first
        rest = [device for device in waiting if device not in first]
        yield from in_order(rest, self.topology.context.machine)

    def _put(self, device: Device) -> None:
        topology = self.topology
        others = [one for one in self.devices if one.id in self._fixed or not self.may_grow]
        place = topology.place_beside_group(device, others) or topology.find(device)
        connect = topology.connect_of(device)
        if place is None and self.may_grow and not connect >= Connect.INTEGRATED:
            self._grow_to(len(topology.buses), connect)
            place = topology.find(device)
        if place is None:
            topology.refuse(device.key, "there is no free PCI slot left for it", FEWER)
        else:
            topology.put(device, place)

    def _grow_to(self, bus: int, connect: Connection) -> int | None:
        """Add buses up to *bus* for a device of this connection; return where it really goes.

        If there is only PCI Express, a device of conventional PCI needs a bridge, and the bridge a
        port, so its bus is one further.
        """
        buses = self.topology.buses
        missing = bus - len(buses) + 1
        if missing <= 0:
            return bus
        if connect >= Connect.PCI:
            bridged = any(one.takes >= Connect.PCI_BRIDGE for one in buses.values())
            if not bridged:
                bus += missing == 1
                self._grow_by_bridge()
            model = "pci-bridge"
        elif connect & BEHIND_PORT:
            model = "pcie-root-port"
        else:
            return None
        while len(buses) <= bus:
            self.topology.know(len(buses), model)
        return bus

    def _grow_by_bridge(self) -> None:
        """Add the first bus of conventional PCI, and before it the port for its bridge."""
        topology = self.topology
        index = len(topology.buses)
        if topology.context.capabilities.has_device("pcie-pci-bridge"):
            topology.know(index, "pcie-root-port", Connect.EXPRESS_BRIDGE)
            topology.know(index + 1, "pcie-to-pci-bridge")
        else:
            topology.know(index, "dmi-to-pci-bridge")
            topology.know(index + 1, "pci-bridge")

    def _reserve_for_bridge(self) -> None:
        """Keep a slot of conventional PCI for a bridge that may be needed later."""
        buses = self.topology.buses
        if self.topology.context.has_pci_express:
            return
        if any(bus.is_free(slot) for bus in buses.values() for slot in bus.slots):
            self._put(Device("", "reserved for a bridge", "", slot=Slot.CONVENTIONAL))

    def _reserve_for_hot_plug(self) -> None:
        """Keep a root port free, if the document leaves ports to us."""
        own = any(is_bridge(device) for device in self.devices)
        added = len(self.topology.buses) > 1
        if self.topology.context.has_pci_express and added and not own:
            self._put(Device("", "reserved for hot-plug", "", slot=Slot.EXPRESS))

    def _reserve_for_added(self) -> None:
        """Keep a slot for each bridge that was added, wherever one is free.

        In the second round they come first, and get their real places.
        """
        topology = self.topology
        own = {index_of(device) for device in self.devices if is_bridge(device)}
        for index, bus in sorted(topology.buses.items()):
            if index and index not in own:
                added = bridge(index, bus.name, topology.context)
                place = topology.find(added, anywhere=True)
                if place is not None:
                    topology.put(added, place)
