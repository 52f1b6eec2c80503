# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which bus and address each device gets.

Addresses in the document are kept. Then those devices follow that have a usual place, then the
others in the order of the command line, so that the same document gives the same addresses. A bus
number that the document uses without a controller for it gets one, as libvirt does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from bpferry.commandline.buses.pci import BRIDGES, CHIPSET, FUNCTIONS, SLOTS, Bus, Kind
from bpferry.commandline.buses.usb import usb_places
from bpferry.commandline.context import Context, unsupported
from bpferry.commandline.parts import Device, Slot
from bpferry.domain.model.base import Address
from bpferry.errors import Unsupported

SPARE_ROOT_PORTS: Final = 4
"""Empty ports for hot-plug, where the machine has PCI Express. Each costs the guest 4 KiB of I/O
ports and 2 MiB of addresses."""

LAST_BUS: Final = 255
"""A bus number has eight bits."""

ROOT_PORTS: Final = ("pcie-root-port", "ioh3420")

PCI_SLOTS: Final = (Slot.EXPRESS, Slot.CONVENTIONAL)


@dataclass(frozen=True, slots=True)
class Placed:
    """All devices with their places."""

    added: tuple[Device, ...]
    """The bridges and ports that no document named, in the order in which QEMU needs them."""
    by_id: dict[str, Device]
    """Without those that have no place."""
    refusals: tuple[Unsupported, ...] = ()
    """Addresses that cannot be, and devices for which there is no place."""

    @property
    def all(self) -> tuple[Device, ...]:
        """Every device."""
        return (*self.added, *self.by_id.values())


def place_devices(devices: Sequence[Device], context: Context) -> Placed:
    """Return *devices* with bus and address."""
    refusals: list[Unsupported] = []
    usb: dict[str, dict[str, object]] = {}
    for device, place in usb_places(devices, context):
        if isinstance(place, Unsupported):
            refusals.append(place)
        else:
            usb[device.id] = place
    there = [
        replace(device, properties={**device.properties, **usb.get(device.id, {})})
        for device in devices
        if device.slot is not Slot.USB or device.id in usb
    ]
    placed = _on_pci(there, context) if context.has_pci else _without_pci(there, context)
    return replace(placed, refusals=(*refusals, *placed.refusals))


def _on_pci(devices: Sequence[Device], context: Context) -> Placed:
    topology = _Topology(context, devices)
    on_pci = [device for device in devices if device.slot in PCI_SLOTS]
    for device in on_pci:
        topology.place_given(device)
    for device in on_pci:
        topology.place_preferred(device)
    topology.place_others(on_pci)
    return Placed(
        tuple(topology.finish(device) for device in topology.added),
        {device.id: topology.finish(device) for device in devices if topology.has(device)},
        tuple(topology.refusals),
    )


def _without_pci(devices: Sequence[Device], context: Context) -> Placed:
    lost = [one for one in devices if one.slot in PCI_SLOTS and not one.driver.endswith("-device")]
    none = f"needs a PCI bus, and the machine '{context.machine_type}' has none"
    refusals = tuple(unsupported(device.key, f"'{device.driver}' {none}") for device in lost)
    return Placed((), {one.id: one for one in devices if one not in lost}, refusals)


def _find_problem(where: Address, buses: Mapping[int, Bus]) -> str:
    """Return why nothing can be at the PCI address *where*; empty if it can."""
    if where.domain:
        return "the only PCI domain is 0"
    bus = buses.get(where.bus or 0)
    if bus is None:
        return f"the last PCI bus is {LAST_BUS}"
    return bus.find_problem(where.slot or 0, where.function or 0)


class _Topology:
    """The buses of one machine while devices are put on them."""

    def __init__(self, context: Context, devices: Sequence[Device]) -> None:
        self._express = context.has_pci_express
        root_kind = Kind(1, SLOTS - 1, root_ports=self._express)
        root = Bus("pcie.0" if self._express else "pci.0", 0, root_kind)
        self.buses = {0: root}
        for slot, function in CHIPSET[context.family]:
            root.taken[slot, function] = "the chipset"
        self.places: dict[str, tuple[Bus, int, int]] = {}
        self.added: list[Device] = []
        self.refusals: list[Unsupported] = []
        self._ports: list[Device] = []
        for device in devices:
            if device.driver in BRIDGES and device.id.startswith("pci."):
                self._know_bus(device)
        self._add_missing(devices)

    def _know_bus(self, device: Device) -> None:
        index = int(device.id.removeprefix("pci."))
        self.buses[index] = Bus(device.id, index, BRIDGES[device.driver])

    def _add_missing(self, devices: Sequence[Device]) -> None:
        """Add a controller for each bus number that an address names and no controller has."""
        highest = 0
        for device in devices:
            if device.address is None or device.address.type != "pci":
                continue
            bus = device.address.bus or 0
            if bus <= LAST_BUS:
                highest = max(highest, bus)
        for index in range(1, highest + 1):
            if index not in self.buses:
                self._add_bridge(index)

    def _add_bridge(self, index: int) -> Bus:
        """Add a bus with its bridge: a root port, or a bridge where there are none."""
        driver = "pcie-root-port" if self._express else "pci-bridge"
        # A port's chassis and slot are one pair, which has to be unique.
        number = {"chassis": index, "port": index} if self._express else {"chassis_nr": index}
        bridge = Device(driver, f"pci.{index}", "", dict(number), Slot.CONVENTIONAL)
        self.added.append(bridge)
        self._know_bus(bridge)
        return self.buses[index]

    def place_given(self, device: Device) -> None:
        """Put *device* where its document says."""
        where = device.address
        if where is None or not where.is_pci_place:
            return
        problem = _find_problem(where, self.buses)
        if problem:
            hint = "leave the address out, and it gets a free one"
            self.refusals.append(unsupported(f"{device.key}.address", problem, hint))
        else:
            bus = self.buses[where.bus or 0]
            self._put(device, bus, where.slot or 0, where.function or 0)

    def place_preferred(self, device: Device) -> None:
        """Put *device* where it usually sits, if that place is free."""
        if device.id in self.places or device.preferred is None:
            return
        slot, _, function = device.preferred.partition(".")
        place = int(slot, 16), int(function or "0")
        root = self.buses[0]
        shares = "." in device.preferred
        if place not in root.taken and (shares or root.is_free(place[0])):
            self._put(device, root, *place)

    def place_others(self, devices: Sequence[Device]) -> None:
        """Put the rest of *devices* where there is room, adding bridges and ports."""
        rest = [device for device in devices if device.id not in self.places]
        self._ports = [device for device in rest if device.driver in ROOT_PORTS]
        rest = [device for device in rest if device.driver not in ROOT_PORTS]
        if not self._express:
            self._add_bridges(len(rest))
        for device in rest:
            if self._express and device.slot is Slot.EXPRESS and device.driver not in BRIDGES:
                self._put(device, self._empty_port(), 0)
                continue
            free = self._free_slot()
            if free is not None:
                self._put(device, *free)
            else:
                self._refuse(device.key, "there is no free PCI slot left for it")
        if self._express:
            while sum(self._is_empty_port(bus) for bus in self.buses.values()) < SPARE_ROOT_PORTS:
                self._add_bridge(self._next_index())
        self._place_waiting()

    def has(self, device: Device) -> bool:
        """Say whether *device* has the place that it needs."""
        return device.slot not in PCI_SLOTS or device.id in self.places

    def _refuse(self, key: str, sentence: str) -> None:
        self.refusals.append(unsupported(key, sentence))

    def _put(self, device: Device, bus: Bus, slot: int, function: int = 0) -> None:
        """Give *device* a function of a slot of *bus* that nobody has."""
        bus.taken[slot, function] = device.id
        self.places[device.id] = (bus, slot, function)

    def _next_index(self) -> int:
        return max(self.buses) + 1

    def _is_empty_port(self, bus: Bus) -> bool:
        return bus.kind == BRIDGES["pcie-root-port"] and not bus.taken

    def _empty_port(self) -> Bus:
        found = (bus for _, bus in sorted(self.buses.items()) if self._is_empty_port(bus))
        return next(found, None) or self._add_bridge(self._next_index())

    def _add_bridges(self, count: int) -> None:
        """Add bridges until *count* devices fit beside those that are placed."""
        while self._room() < count + len(self._waiting()):
            self._add_bridge(self._next_index())

    def _room(self) -> int:
        return sum(len(list(bus.free_slots())) for bus in self.buses.values() if bus.kind.automatic)

    def _waiting(self) -> list[Device]:
        """Return the bridges and ports that have no place yet."""
        return [d for d in (*self._ports, *self.added) if d.id not in self.places]

    def _free_slot(self) -> tuple[Bus, int] | None:
        for index, bus in sorted(self.buses.items()):
            # What the bridges themselves need stays free on the root bus.
            slots = list(bus.free_slots()) if bus.kind.automatic else []
            spared = self._slots_for_waiting() if index == 0 else 0
            if len(slots) > spared and not self._is_port(bus):
                return bus, slots[0]
        return None

    def _is_port(self, bus: Bus) -> bool:
        return bus.kind.first == bus.kind.last

    def _slots_for_waiting(self) -> int:
        waiting = len(self._waiting())
        return -(-waiting // FUNCTIONS) if self._express else waiting

    def _place_waiting(self) -> None:
        """Put what waits on the root bus: bridges in slots, ports eight to a slot."""
        root = self.buses[0]
        waiting = self._waiting()
        step = FUNCTIONS if self._express else 1
        for first in range(0, len(waiting), step):
            slot = next(root.free_slots(), None)
            if slot is None:
                self._refuse("", "there is no free PCI slot left for the bridges that it needs")
                return
            for function, bridge in enumerate(waiting[first : first + step]):
                self._put(bridge, root, slot, function)

    def finish(self, device: Device) -> Device:
        """Return *device* with the properties that say where it sits."""
        if device.id not in self.places:
            return device
        bus, slot, function = self.places[device.id]
        address = f"{slot:#x}" if function == 0 else f"{slot:#x}.{function:#x}"
        several = function == 0 and slot in bus.shared_slots()
        wished = device.address.multifunction if device.address else None
        place = {
            "bus": bus.id,
            "addr": address,
            "multifunction": True if several else wished,
        }
        return replace(device, properties={**device.properties, **place})
