# SPDX-License-Identifier: LGPL-2.1-or-later
"""What controllers are called, and the model of a SCSI controller that names none."""

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from bpferry.domain.model.machine import Machine
from bpferry.domain.names import Named, chosen, named
from bpferry.qemu.capabilities import Capabilities

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bpferry.domain.model.controllers import Controller

PREFIXES: Final = {
    "pci": "pci.", "usb": "usb", "scsi": "scsi", "sata": "sata", "ide": "ide", "fdc": "fdc",
    "virtio-serial": "virtio-serial", "ccid": "ccid",
}  # fmt: skip

VIRTIO_SCSI: Final = frozenset({"virtio-scsi", "virtio-transitional", "virtio-non-transitional"})


def controllers_of(machine: Machine) -> "Iterator[Named[Controller]]":
    """Yield the controllers of *machine*, which have an index each."""
    for device in named(machine.controllers, "controllers", ""):
        yield replace(device, id=id_of(device.value))


def id_of(controller: "Controller") -> str:
    """Return the id of *controller*, which has an index: as libvirt's, or the user's own."""
    if controller.type == "usb" and not controller.index:
        return chosen(controller) or "usb"
    return chosen(controller) or f"{PREFIXES[controller.type]}{controller.index}"


def find_controller(machine: Machine, kind: str, index: int) -> "Controller | None":
    """Return the controller *index* of a kind; of a USB 2 group the one with the bus."""
    return next(
        (
            controller
            for controller in machine.controllers
            if controller.type == kind
            and controller.index == index
            and controller.first_port is None
        ),
        None,
    )


def bus_of(machine: Machine, kind: str, index: int) -> str:
    """Return what the id of the bus of controller *index* of a kind begins with."""
    found = find_controller(machine, kind, index)
    return id_of(found) if found else f"{PREFIXES[kind]}{index}"


def scsi_model(controller: "Controller | None", capabilities: Capabilities) -> str:
    """Return the model of a SCSI controller.

    One that names none is the same as under libvirt: an LSI 53C895A if QEMU has it.
    """
    model = controller.model if controller else None
    if model not in (None, "auto"):
        return model
    return "lsilogic" if capabilities.has_device("lsi53c895a") else "virtio-scsi"
