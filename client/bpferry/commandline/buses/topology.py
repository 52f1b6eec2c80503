# SPDX-License-Identifier: LGPL-2.1-or-later
"""The PCI buses of one machine while devices are put on them, by either set of rules."""

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from bpferry.commandline.buses.pci import (
    CHIPSET,
    DEVICE,
    MODEL_OF,
    MODELS,
    Bus,
    Connect,
    Connection,
    Place,
)
from bpferry.commandline.context import Context, mistaken, unsupported
from bpferry.commandline.parts import Device, Slot
from bpferry.errors import Unsupported

PCI_SLOTS: Final = (Slot.EXPRESS, Slot.CONVENTIONAL, Slot.INTEGRATED)

LAST_BUS: Final = 255

FEWER: Final = "remove devices, or the addresses of some, so that others find room"
"""What to do if the buses are full."""
"""A bus number has eight bits."""


def is_bridge(device: Device) -> bool:
    """Say whether there is a PCI bus behind *device*."""
    return device.driver in MODEL_OF


def index_of(bridge: Device) -> int:
    """Return the number of the bus behind *bridge*."""
    return int(bridge.id.removeprefix("pci."))


class Topology(Struct):
    """Buses, and which device is where."""

    context: Context
    buses: dict[int, Bus] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    """By the id of the device."""
    refusals: dict[str, Unsupported] = field(default_factory=dict)
    """Impossible addresses, and devices that have no place, by their keys."""
    shared: set[tuple[int, int]] = field(default_factory=set)
    """Bus and slot of devices that are said to have several functions, whether they do or not."""

    @classmethod
    def of(cls, context: Context, devices: Iterable[Device]) -> "Topology":
        """Return the buses of the machine and of the bridges among *devices*."""
        topology = cls(context)
        topology.know(0, "pcie-root" if context.has_pci_express else "pci-root")
        root = topology.buses[0]
        root.holders |= dict.fromkeys(CHIPSET[context.family], "the chipset")
        for device in devices:
            if is_bridge(device):
                topology.know(index_of(device), MODEL_OF[device.driver])
        return topology

    def know(self, index: int, name: str, takes: Connection | None = None) -> None:
        """Add the bus *index* behind a controller of the model *name*."""
        self.buses[index] = Bus.of(index, name, takes)

    def fill_gaps(self) -> None:
        """Add a bus for each number below the highest that no controller has."""
        usual = "pcie-root-port" if self.context.has_pci_express else "pci-bridge"
        for index in range(1, max(self.buses)):
            if index not in self.buses:
                self.know(index, usual)

    def connect_of(self, device: Device) -> Connection:
        """Return how *device* is connected."""
        if is_bridge(device):
            return MODELS[MODEL_OF[device.driver]].connect
        if device.slot is Slot.INTEGRATED:
            return DEVICE | Connect.INTEGRATED
        if device.slot is Slot.EXPRESS and self.context.has_pci_express:
            return Connect.EXPRESS | Connect.AUTOMATIC
        return DEVICE

    def find(self, device: Device, *, anywhere: bool = False) -> Place | None:
        """Return the first free place for *device*, by the order of the buses.

        It may be behind itself if it can be *anywhere*.
        """
        connect = self.connect_of(device)
        for _, bus in sorted(self.buses.items()):
            place = bus.find(connect, device.function)
            if place and (anywhere or self.can_hold(bus, device)):
                return place
        return None

    def can_hold(self, bus: Bus, device: Device) -> bool:
        """Say whether *device* can be on *bus* without being behind itself.

        A bus whose own bridge has no place yet may still end up behind it, except with a root port.
        """
        return not is_bridge(device) or self._way_up(bus, device) is True

    def _way_up(self, bus: Bus, device: Device) -> bool | None:
        """Return whether *bus* is free of the bridge *device*, up to the root; None if unknown."""
        index = bus.index
        while index:
            if index == index_of(device):
                return False
            place = self.places.get(self.buses[index].id)
            if place is None:
                return True if self.buses[index].name == "pcie-root-port" else None
            index = place.bus
        return True

    def put(self, device: Device, place: Place) -> None:
        """Give *device* a *place* that is free."""
        self.buses[place.bus].take(place, device.id, self.connect_of(device))
        self.places[device.id] = place

    def refuse(self, key: str, sentence: str, hint: str) -> None:
        """Note that what is at *key* cannot be done, unless that is known already."""
        self.refusals.setdefault(key, unsupported(key, sentence, hint))

    def place_named(self, device: Device) -> Place | None:
        """Return the place that the document gives *device*; None if none, or an impossible one."""
        where = device.address
        if where is None or not where.is_pci_place:
            return None
        if where.domain:
            self._refuse_address(device, "the only PCI domain is 0")
        elif (where.bus or 0) > LAST_BUS:
            self._refuse_address(device, f"the last PCI bus is {LAST_BUS}")
        else:
            return Place(where.bus or 0, where.slot or 0, where.function or 0)
        return None

    def keep(self, device: Device, place: Place) -> None:
        """Give *device* the *place* that the document says, if it can be there."""
        bus = self.buses[place.bus]
        problem = bus.find_problem(place.slot, place.function)
        if is_bridge(device) and self._way_up(bus, device) is False:
            problem = "its bus is behind it"
        if problem:
            self._refuse_address(device, problem)
        else:
            self.put(device, place)

    def _refuse_address(self, device: Device, problem: str) -> None:
        hint = "leave the address out, and it gets a free one"
        key = f"{device.key}.address"
        self.refusals.setdefault(key, mistaken(key, problem, hint))

    def put_where_usual(self, devices: Iterable[Device]) -> None:
        """Put each of *devices* that has no place yet where it usually sits, if that is free."""
        for device in devices:
            for text in () if device.id in self.places else device.usual:
                slot, _, function = text.partition(".")
                place = Place(0, int(slot, 16), int(function or "0"))
                root = self.buses[0]
                of_the_chip = "." in text and (place.slot, place.function) not in root.holders
                if of_the_chip or root.is_free(place.slot):
                    self.put(device, place)
                    break

    def place_beside_group(self, device: Device, others: Sequence[Device]) -> Place | None:
        """Return the function of *device* in the slot of its group, if that is free."""
        for other in others:
            if device.group and other.group == device.group and other.id in self.places:
                beside = replace(self.places[other.id], function=device.function)
                return beside if self.is_free(beside) else None
        return None

    def is_free(self, place: Place) -> bool:
        """Say whether a device can be at *place*."""
        return not self.buses[place.bus].find_problem(place.slot, place.function)

    def several_in(self, place: Place) -> bool:
        """Say whether the function 0 at *place* has to announce that there are others."""
        several = self.buses[place.bus].several_in(place.slot)
        return several or (place.bus, place.slot) in self.shared


def bridge(index: int, name: str, context: Context) -> Device:
    """Return a bridge or port that no document names, with the bus *index* behind it."""
    drivers = MODELS[name].drivers
    driver = next((one for one in drivers if context.capabilities.has_device(one)), drivers[0])
    properties: dict[str, object] = {}
    if name == "pcie-root-port":
        properties = {"chassis": index}
    elif name == "pci-bridge":
        properties = {"chassis_nr": index}
    return Device(driver, f"pci.{index}", "", properties, Slot.CONVENTIONAL)
