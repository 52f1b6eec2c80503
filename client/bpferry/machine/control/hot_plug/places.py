# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a device goes that is plugged in: a port or slot of PCI that nothing is in.

A machine with PCI Express takes devices only at its ports, of which each has one; a description by
kind has some to spare, and one in libvirt's order one. A pc takes them in its slots, of which QEMU
chooses one.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from bpferry.commandline.buses.homes import ROWS
from bpferry.commandline.buses.pci import MODEL_OF
from bpferry.commandline.buses.topology import index_of
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device, Slot
from bpferry.domain.forms import either
from bpferry.domain.model.base import Address
from bpferry.errors import NotReady, Unsupported
from bpferry.steering.plan import Notice

PORTS: Final = ("pcie-root-port", "pcie-switch-downstream-port")

LEVEL: Final = 8
"""Ports of a level of places by kind (``buses.homes``)."""

MORE_PORTS: Final = "take a device out, or add ports to the description before the next start: " + (
    either(
        '[[controllers]] with type = "pci" and model = "pcie-root-port", once for each',
        "<controller type='pci' model='pcie-root-port'/>, once for each",
    )
)


BY_ACPI: Final = ("pc", "q35")
"""Families in which QEMU tells the guest by ACPI of a device that comes or goes. It hides the way
that ports have of their own (hw/i386/pc_q35.c)."""

ADD_ACPI: Final = "{}, and start the VM again".format(
    either("write acpi = true in [features]", "add <acpi/> to <features>")
)


def hears_of_devices(context: Context) -> bool:
    """Return whether the guest is told of a device that comes or goes while it runs."""
    return context.family not in BY_ACPI or context.machine.features.acpi


class Places:
    """The places of one VM, and which device is on which bus."""

    def __init__(self, context: Context, devices: Sequence[Device]) -> None:
        """Begin with the *devices* of the start, which have their places."""
        self._context = context
        self._ports = [device for device in devices if _takes_devices(device)]
        self._buses = {one.id: str(one.properties.get("bus", "")) for one in devices}

    def take(self, device_id: str, place: Mapping[str, object]) -> None:
        """Note that a device is at *place*."""
        self._buses[device_id] = str(place.get("bus", ""))

    def give_back(self, device_id: str) -> None:
        """Note that a device is gone."""
        self._buses.pop(device_id, None)

    def doubts(self, place: Mapping[str, object]) -> tuple[Notice, ...]:
        """Return what its user should know of a device at *place*."""
        if not place or hears_of_devices(self._context):
            return ()
        text = "the guest sees it only once it has restarted: without ACPI, nothing tells it before"
        return (Notice(text, ADD_ACPI),)

    def find(self, device: Device) -> dict[str, object]:
        """Return the properties that say where *device* goes; QEMU chooses what they leave out.

        Raises:
            Unsupported: the machine cannot take such a device while it runs.
            NotReady: there is no room.
        """
        context = self._context
        if device.slot in (Slot.NONE, Slot.USB):
            return {}
        if not context.has_pci:
            raise Unsupported(
                f"the machine '{context.machine_type}' has no PCI, where devices are plugged in",
                "choose the machine type 'q35' or 'virt', and start the VM again",
                device.key,
            )
        if device.address is not None and device.address.is_pci_place:
            return _named(device.address, context)
        if not context.has_pci_express:
            return {"bus": "pci.0"}
        if device.slot is not Slot.EXPRESS:
            raise Unsupported(
                f"'{device.driver}' is for conventional PCI, and a machine with PCI Express takes "
                "only devices of PCI Express while it runs",
                "choose the model 'virtio', or write the device into the description",
                device.key,
            )
        return {"bus": self._free_port(device.family), "addr": "0x0"}

    def _free_port(self, family: str) -> str:
        taken = set(self._buses.values())
        free = [port for port in self._ports if port.id not in taken]
        if not free:
            count = len(self._ports)
            full = f"all {count} ports of PCI Express are taken" if count else "it has no port"
            raise NotReady(f"there is no room for another device: {full}", MORE_PORTS)
        row = ROWS[family]
        own = range(row.first, row.first + row.count)
        free.sort(key=lambda port: ((index_of(port) - 1) % LEVEL not in own, index_of(port)))
        return free[0].id


def _takes_devices(bridge: Device) -> bool:
    """Say whether *bridge* is a port that a device can be plugged into."""
    return MODEL_OF.get(bridge.driver) in PORTS and bridge.properties.get("hotplug") is not False


def _named(address: Address, context: Context) -> dict[str, object]:
    number = address.bus or 0
    bus = "pcie.0" if context.has_pci_express and not number else f"pci.{number}"
    function = f".{address.function:#x}" if address.function else ""
    return {"bus": bus, "addr": f"{address.slot or 0:#x}{function}"}
