# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which bus and address each device gets.

Addresses in the document are kept. The others follow one of two sets of rules, which the document
chooses: libvirt's order, or a place for each kind of device that no other kind moves.
"""

from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bpferry.commandline.buses import by_kind
from bpferry.commandline.buses.pci import MODEL_OF, Place
from bpferry.commandline.buses.topology import PCI_SLOTS, Topology, index_of, is_bridge
from bpferry.commandline.buses.usb import usb_places
from bpferry.commandline.context import Context, unsupported
from bpferry.commandline.parts import Device, Slot
from bpferry.errors import Unsupported


class Placed(Struct, frozen=True):
    """All devices with their places."""

    bridges: tuple[Device, ...]
    """PCI bridges and ports, the document's and those that were added, each after what it is
    plugged into. They come before all other devices."""
    by_id: dict[str, Device]
    """The others, without those that have no place."""
    refusals: tuple[Unsupported, ...] = ()
    """Impossible addresses, and devices for which there is no place."""

    @property
    def all(self) -> tuple[Device, ...]:
        """Every device."""
        return (*self.bridges, *self.by_id.values())


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
        msgspec.structs.replace(device, properties={**device.properties, **usb.get(device.id, {})})
        for device in devices
        if device.slot is not Slot.USB or device.id in usb
    ]
    placed = _with_pci(there, context) if context.has_pci else _without_pci(there, context)
    return replace(placed, refusals=(*refusals, *placed.refusals))


def _without_pci(devices: Sequence[Device], context: Context) -> Placed:
    lost = [one for one in devices if one.slot in PCI_SLOTS and not one.driver.endswith("-device")]
    none = f"needs a PCI bus, and the machine '{context.machine_type}' has none"
    refusals = tuple(
        unsupported(
            device.key,
            f"'{device.driver}' {none}",
            "remove the device, or choose a machine type with PCI, such as 'q35'",
        )
        for device in lost
    )
    return Placed((), {one.id: one for one in devices if one not in lost}, refusals)


def _with_pci(devices: Sequence[Device], context: Context) -> Placed:
    on_pci = [device for device in devices if device.slot in PCI_SLOTS]
    topology, added = _add_bridges(on_pci, context)
    refusals = dict(topology.refusals)
    lost = [one for one in on_pci if is_bridge(one) and one.id not in topology.places]
    if lost:
        # Devices that would be behind them have to go somewhere else.
        on_pci = [device for device in on_pci if device not in lost]
        topology, added = _add_bridges(on_pci, context)
    refusals = {error.element or "": error for error in _misplaced(on_pci, topology)} | refusals
    placed = [
        _finish(device, topology)
        for device in devices
        if device.slot not in PCI_SLOTS or device.id in topology.places
    ]
    bridges = (*added, *(device for device in on_pci if is_bridge(device)))
    return Placed(
        tuple(_finish(device, topology) for device in _in_order(bridges, topology)),
        {device.id: device for device in placed if not is_bridge(device)},
        tuple((topology.refusals | refusals).values()),
    )


def _add_bridges(
    devices: Sequence[Device], context: Context
) -> tuple[Topology, tuple[Device, ...]]:
    """Return where each of *devices* is, and the bridges that were added for them."""
    if context.machine.device_addresses != "libvirt":
        return by_kind.place(devices, context)
    from bpferry.commandline.buses.libvirt_order import place  # noqa: PLC0415 - where it is chosen

    return place(devices, context)


def _misplaced(devices: Sequence[Device], topology: Topology) -> Iterator[Unsupported]:
    """Yield what is refused of devices that have a place."""
    context = topology.context
    by_kind_there = context.machine.device_addresses == "by-kind"
    for device in devices:
        if device.id not in topology.places:
            continue
        where = device.address
        if where is not None and where.type != "pci":
            sentence = f"the machine '{context.machine_type}' has PCI, and puts its devices there"
            hint = "leave the address out"
            yield unsupported(f"{device.key}.address.type", sentence, hint)
        if by_kind_there and by_kind.lacks_port(device, topology.places[device.id], context):
            sentence = "it needs a port of PCI Express, and the device is on the root bus"
            hint = "give it an address on the bus of a root port, or leave ats out"
            yield unsupported(f"{device.key}.ats", sentence, hint)


def _in_order(bridges: Sequence[Device], topology: Topology) -> list[Device]:
    """Return *bridges* by their buses, each after the one whose bus it is on."""
    waiting = {index_of(bridge): bridge for bridge in sorted(bridges, key=index_of)}
    ordered: list[Device] = []
    while waiting:
        index = next(n for n, one in waiting.items() if topology.places[one.id].bus not in waiting)
        ordered.append(waiting.pop(index))
    return ordered


def _finish(device: Device, topology: Topology) -> Device:
    """Return *device* with the properties that say where it sits."""
    place = topology.places.get(device.id)
    if place is None:
        return device
    several = place.function == 0 and topology.several_in(place)
    wished = device.address.multifunction if device.address else None
    where: dict[str, object] = {
        **_port_of(device, place),
        "bus": topology.buses[place.bus].id,
        "addr": place.addr,
        "multifunction": True if several else wished,
    }
    if topology.context.machine.device_addresses == "by-kind":
        where |= by_kind.properties_of(device, place, topology.context)
    return msgspec.structs.replace(device, properties={**device.properties, **where})


def _port_of(device: Device, place: Place) -> dict[str, object]:
    """Return the number, as in libvirt, of a port that has none yet; the guest sees it."""
    model = MODEL_OF.get(device.driver)
    if device.properties.get("port") is not None:
        return {}
    if model == "pcie-root-port":
        return {"port": place.slot << 3 | place.function}
    return {"port": place.slot} if model == "pcie-switch-downstream-port" else {}
