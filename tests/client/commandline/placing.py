# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices on paper, and where they end up: as QEMU is told, and as a guest sees it."""

from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import replace

from bpferry.commandline.buses.pci import MODEL_OF
from bpferry.commandline.buses.placement import Placed, place_devices
from bpferry.commandline.context import Context, Folders
from bpferry.commandline.parts import Device, Slot
from bpferry.domain.model.accelerator import Accelerator
from bpferry.domain.model.base import Address
from bpferry.domain.model.controllers import Controller
from bpferry.domain.model.disks import Disk
from tests.client.support import CAPABILITIES, MACHINE, OWNER

BRIDGES: dict[str, dict[str, str]] = {driver: {} for driver in MODEL_OF}

Q35 = Context(
    machine=MACHINE,
    capabilities=msgspec.structs.replace(CAPABILITIES, devices={**CAPABILITIES.devices, **BRIDGES}),
    accelerator=Accelerator.TCG,
    plans={},
    owner=OWNER,
    folders=Folders("/run/x", "/state/x"),
    fd=str,
    machine_type="q35",
)
PC = replace(Q35, machine_type="pc")
VIRT = replace(Q35, machine_type="virt")


def as_libvirt(
    context: Context, *, disks: Iterable[str] = (), controllers: Iterable[Controller] = ()
) -> Context:
    """Return *context* of a VM whose devices are placed in libvirt's order.

    Args:
        context: of a machine.
        disks: the targets of its disks.
        controllers: those of its devices.
    """
    machine = msgspec.structs.replace(
        context.machine,
        device_addresses="libvirt",
        disks=tuple(Disk(target=target) for target in disks),
        controllers=tuple(controllers),
    )
    return replace(context, machine=machine)


def virtio(family: str, number: int = 0, address: Address | None = None) -> Device:
    """Return the virtio device *number* of a family."""
    driver = {"cards": "virtio-net-pci", "disks": "virtio-blk-pci"}.get(family, "virtio-rng-pci")
    return Device(
        driver, f"{family}{number}", f"{family}[{number}]", {}, slot=Slot.EXPRESS, address=address
    )


def old(family: str, number: int = 0, address: Address | None = None) -> Device:
    """Return the device *number* of a family, of conventional PCI."""
    return Device(
        "e1000",
        f"{family}{number}",
        f"{family}[{number}]",
        {},
        slot=Slot.CONVENTIONAL,
        address=address,
    )


def controller(driver: str, index: int, address: Address | None = None) -> Device:
    """Return a PCI controller of the document."""
    return Device(
        driver, f"pci.{index}", f"controllers[{index}]", {}, slot=Slot.CONVENTIONAL, address=address
    )


def pci(bus: int, slot: int, function: int = 0) -> Address:
    """Return an address as a document gives it."""
    return Address(type="pci", domain=0, bus=bus, slot=slot, function=function)


def places(placed: Placed) -> dict[str, str]:
    """Return bus and address of each device that has them, by its id."""
    return {
        device.id: f"{device.properties['bus']} {device.properties['addr']}"
        for device in placed.all
        if "addr" in device.properties
    }


def placed(devices: Iterable[Device], context: Context) -> dict[str, str]:
    """Return bus and address of each of *devices*, and of what is added for them."""
    return places(place_devices(tuple(devices), context))


def guest_places(devices: Iterable[Device]) -> dict[str, tuple[int, int, int]]:
    """Return bus, slot and function of each device as the guest sees them, by its id.

    Firmware and Linux number buses as they find the bridges, from slot to slot, and what is behind
    a bridge before what is beside it.
    """
    by_bus: dict[str, list[tuple[int, int, Device]]] = {}
    for device in devices:
        if "addr" in device.properties:
            slot, _, function = str(device.properties["addr"]).partition(".")
            place = (int(slot, 16), int(function or "0", 16), device)
            by_bus.setdefault(str(device.properties["bus"]), []).append(place)
    found: dict[str, tuple[int, int, int]] = {}
    (root,) = {"pcie.0", "pci.0"} & set(by_bus) or {"pci.0"}
    _number(root, 0, by_bus, found)
    return found


def _number(
    name: str,
    number: int,
    by_bus: Mapping[str, list[tuple[int, int, Device]]],
    found: dict[str, tuple[int, int, int]],
) -> int:
    """Note the places on the bus *name*, which is *number*; return the last number below it."""
    last = number
    for slot, function, device in sorted(by_bus.get(name, []), key=lambda one: one[:2]):
        found[device.id] = (number, slot, function)
        if device.driver in MODEL_OF:
            last = _number(device.id, last + 1, by_bus, found)
    return last


def refused(devices: Iterable[Device], context: Context) -> dict[str | None, str]:
    """Return what is refused of *devices*: each message by its key."""
    result = place_devices(tuple(devices), context)
    return {error.element: error.message for error in result.refusals}
