# SPDX-License-Identifier: LGPL-2.1-or-later
"""Places on PCI by kind: a device at the end of its list, or one of another kind, moves no other.

Addresses in the document are kept. Any other device gets the place that belongs to its number
among all of its kind (``homes``), so that an address given to one moves no other either. Only if
that is taken, or if a kind has more devices than places, another one is found. Bridges of the
document come after all levels, so that they do not change the numbers of buses.
"""

from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import Final

from msgspec import Struct, field

from bpferry.commandline.buses import homes
from bpferry.commandline.buses.pci import FUNCTIONS, Connect, Place
from bpferry.commandline.buses.topology import FEWER, Topology, bridge, index_of, is_bridge
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device, Slot
from bpferry.domain.remaining import numbered

MOST_LEVELS: Final = 31
"""Each has eight buses, of which there can be 255."""

WITH_LEGACY: Final = frozenset({
    "virtio-9p-pci", "virtio-balloon-pci", "virtio-blk-pci", "virtio-net-pci", "virtio-rng-pci",
    "virtio-scsi-pci", "virtio-serial-pci", "vhost-user-blk-pci", "vhost-scsi-pci",
})  # fmt: skip
"""The drivers that know the protocol from before version 1.0."""

BY_INDEX: Final = ("scsi", "sata", "virtio-serial", "usb")
"""Kinds of controllers, whose index is their number."""


def place(devices: Sequence[Device], context: Context) -> tuple[Topology, tuple[Device, ...]]:
    """Return where each of *devices* is, and the bridges that were added for them."""
    least = homes.levels_for(devices, express=context.has_pci_express)
    layouts = [_Layout(Topology.of(context, devices), devices)]
    for levels in range(least, MOST_LEVELS + 1):
        layout = layouts[-1]
        if layout.run(levels):
            return layout.topology, tuple(layout.added)
        if layout.is_full:
            break
        layouts.append(_Layout(Topology.of(context, devices), devices))
    layouts[0].refuse_rest()
    return layouts[0].topology, tuple(layouts[0].added)


def lacks_port(device: Device, place: Place, context: Context) -> bool:
    """Say whether *device* asks for something that QEMU silently drops unless it is on a port."""
    return place.bus == 0 and context.has_pci_express and bool(device.properties.get("ats"))


def properties_of(device: Device, place: Place, context: Context) -> dict[str, object]:
    """Return the properties that make *device* the same at *place* as it would be behind a port.

    On the root of PCI Express, QEMU gives virtio devices the protocol from before version 1.0 too
    (hw/virtio/virtio-pci.c).
    """
    if place.bus or not context.has_pci_express or device.slot is not Slot.EXPRESS:
        return {}
    old = {"disable-legacy": "on"} if device.driver in WITH_LEGACY else {}
    return {**old, "ats": None} if lacks_port(device, place, context) else {**old}


class _Layout(Struct):
    """One attempt, with a number of levels."""

    topology: Topology
    devices: Sequence[Device]
    added: list[Device] = field(default_factory=list)
    levels: list[tuple[int, ...]] = field(default_factory=list)
    """The buses of each level."""
    is_full: bool = False
    """There is no room for more levels."""

    @property
    def express(self) -> bool:
        """Whether the machine has PCI Express."""
        return self.topology.context.has_pci_express

    def run(self, levels: int) -> bool:
        """Give out all places; say whether the *levels* were enough."""
        self._add_levels(levels)
        named = self._keep_named()
        in_the_chip = [one for one in self.devices if any("." in place for place in one.usual)]
        self.topology.put_where_usual(in_the_chip)
        self._place_levels()
        for device in self._waiting():
            if is_bridge(device):
                self._place_bridge(device)
        self._place_at_home()
        for device in self._waiting():
            self._place_elsewhere(device)
        missing = any(self._would_fit(device) for device in self._waiting())
        spare = not self.express or next(self._empty_ports(), None) is not None
        return named and spare and not missing

    def refuse_rest(self) -> None:
        """Note what has no place, and what is not where it should be."""
        for device in self.devices:
            place = self.topology.place_named(device)
            if place is not None and place.bus not in self.topology.buses:
                self.topology.refuse(
                    f"{device.key}.address.bus", "there is no room for such a bus", FEWER
                )
        for device in self._waiting():
            self.topology.refuse(device.key, "there is no free PCI slot left for it", FEWER)

    def _waiting(self) -> list[Device]:
        return [
            device
            for device in self.devices
            if device.id not in self.topology.places and device.key not in self.topology.refusals
        ]

    def _would_fit(self, device: Device) -> bool:
        """Say whether more levels have a place for *device*; if not, it is refused."""
        if homes.has_level(device, express=self.express):
            return True
        if not self.express and device.slot is not Slot.INTEGRATED and not is_bridge(device):
            return True
        self.topology.refuse(device.key, "there is no free PCI slot left for it", FEWER)
        return False

    def _put_if_free(self, device: Device, place: Place) -> None:
        if self.topology.is_free(place):
            self.topology.put(device, place)

    def _add_levels(self, levels: int) -> None:
        """Add the buses of *levels*, with the lowest numbers that the document leaves free."""
        own = set(self.topology.buses)
        numbers = (number for number in count(1) if number not in own)
        model = "pcie-root-port" if self.express else "pci-bridge"
        if not self.express:
            self.levels.append((0,))
        while len(self.levels) < levels:
            level = tuple(islice(numbers, FUNCTIONS if self.express else 1))
            self.levels.append(level)
            for index in level:
                self.topology.know(index, model)
                self.added.append(bridge(index, model, self.topology.context))

    def _keep_named(self) -> bool:
        """Put devices where the document says; return whether all those buses are there."""
        all_there = True
        for device in self.devices:
            place = self.topology.place_named(device)
            if place is not None and place.bus in self.topology.buses:
                self.topology.keep(device, place)
            elif place is not None:
                all_there = False
        return all_there

    def _place_levels(self) -> None:
        """Put the ports of each level in a slot of their own, and each bridge in one."""
        ports = {index_of(port): port for port in self.added}
        root = self.topology.buses[0]
        slots = (*homes.LEVEL_SLOTS[self.express], *homes.slots_for_others(express=self.express))
        for level in self.levels:
            if level == (0,):
                continue
            slot = next((slot for slot in slots if root.is_free(slot)), None)
            if slot is None:
                self._drop(level)
                continue
            for function, index in enumerate(level):
                self.topology.put(ports[index], Place(0, slot, function))
        self.levels = [level for level in self.levels if level[0] in self.topology.buses]

    def _drop(self, level: Sequence[int]) -> None:
        """Do without a *level* that there is no room for, and what the document has there."""
        self.is_full = True
        topology = self.topology
        self.added = [port for port in self.added if index_of(port) not in level]
        for index in level:
            del topology.buses[index]
        topology.places = {
            name: place for name, place in topology.places.items() if place.bus not in level
        }

    def _place_bridge(self, device: Device) -> None:
        """Put a bridge of the document where its kind can be; our own ports come last."""
        connect = self.topology.connect_of(device)
        ours = [index for level in self.levels for index in level if index]
        own = [index for index in self.topology.buses if index and index not in ours]
        others = homes.slots_for_others(express=self.express)
        for index in (0, *sorted(own), *reversed(ours)):
            bus = self.topology.buses[index]
            found = bus.find(connect, slots=None if index else others)
            if found and self.topology.can_hold(bus, device):
                self.topology.put(device, found)
                return
        self.topology.refuse(device.key, "there is no PCI bus with room for it", "add one")

    def _place_at_home(self) -> None:
        """Put each device at the place of its kind and number, if that is free."""
        if self.express:
            self.topology.shared.add((0, homes.WITH_EXPRESS["cards"]))
        kinds: dict[tuple[str, bool], list[Device]] = {}
        for device in sorted(self.devices, key=lambda one: one.number):
            if not is_bridge(device):
                kind = homes.kind_of(device, self.topology.context.machine)
                leveled = homes.has_level(device, express=self.express)
                kinds.setdefault((kind, leveled), []).append(device)
        for (kind, leveled), devices in kinds.items():
            if leveled:
                self._place_in_levels(devices)
            elif kind == "usb2":
                self._place_groups(devices)
            else:
                self._place_in_slot(kind, devices)

    def _place_in_levels(self, devices: Sequence[Device]) -> None:
        for rank, device in enumerate(devices):
            if device.id not in self.topology.places:
                home = homes.place_in_level(device.family, rank, self.levels, express=self.express)
                if home is not None:
                    self._put_if_free(device, home)

    def _place_in_slot(self, kind: str, devices: Sequence[Device]) -> None:
        slot = (homes.WITH_EXPRESS if self.express else homes.WITHOUT_EXPRESS).get(kind)
        if slot is None:
            return
        ordered = sorted(self._numbered(kind, devices), key=lambda pair: pair[0])
        # A guest does not see functions of a slot without function 0.
        if ordered and (slot, 0) not in self.topology.buses[0].holders:
            ordered[0] = (0, ordered[0][1])
        for function, device in ordered:
            if function < FUNCTIONS:
                self._put_if_free(device, Place(0, slot, function))

    def _numbered(self, kind: str, devices: Sequence[Device]) -> Iterator[tuple[int, Device]]:
        """Yield those of *devices* that have no place yet, each with its number in its kind."""
        controllers = dict(numbered(self.topology.context.machine.controllers))
        for number, device in enumerate(devices):
            if device.id not in self.topology.places:
                index = controllers[device.number].index if kind in BY_INDEX else number
                yield index or 0, device

    def _place_groups(self, devices: Sequence[Device]) -> None:
        for device in devices:
            beside = self.topology.place_beside_group(device, devices)
            if device.id in self.topology.places:
                continue
            if beside is None and device.group == "usb0":
                beside = Place(0, homes.OWN_SLOT["usb2"], device.function)
            if beside is not None:
                self._put_if_free(device, beside)

    def _place_elsewhere(self, device: Device) -> None:
        """Put *device* at any free place that suits it."""
        beside = self.topology.place_beside_group(device, self.devices)
        place = beside or next((one for one in self._places_elsewhere(device) if one), None)
        if place is not None:
            self.topology.put(device, place)

    def _places_elsewhere(self, device: Device) -> Iterator[Place | None]:
        topology, connect = self.topology, self.topology.connect_of(device)
        if self.express and homes.has_level(device, express=True):
            yield from (topology.buses[index].find(connect) for index in self._empty_ports())
            return
        on_root = connect | Connect.INTEGRATED
        slots = homes.slots_for_others(express=self.express)
        yield topology.buses[0].find(on_root, device.function, slots)
        if not self.express and not connect >= Connect.INTEGRATED:
            for level in self.levels[1:]:
                bus = topology.buses[level[0]]
                yield bus.find(connect, device.function, reversed(bus.slots))

    def _empty_ports(self) -> Iterator[int]:
        """Yield our own buses that are empty, those that are needed least first."""
        for level in reversed(self.levels):
            for index in reversed(level):
                if not self.topology.buses[index].holders:
                    yield index
