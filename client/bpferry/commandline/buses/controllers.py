# SPDX-License-Identifier: LGPL-2.1-or-later
"""Controllers: what other devices are attached to, in the order in which QEMU needs them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from bpferry.commandline.attempt import attempt
from bpferry.commandline.buses.controller_ids import VIRTIO_SCSI, controllers_of, scsi_model
from bpferry.commandline.buses.pci_controllers import pci_builder
from bpferry.commandline.buses.usb_controllers import build_usb
from bpferry.commandline.context import Context, virtio_properties
from bpferry.commandline.parts import Device, Found, Part, Slot, virtio_slot
from bpferry.commandline.threads import queue_mapping, thread_of
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import Named, before
from bpferry.errors import Unsupported

if TYPE_CHECKING:
    from bpferry.domain.model.controllers import Controller

SCSI_DRIVERS: Final = {
    "lsilogic": "lsi53c895a",
    "lsisas1068": "mptsas1068",
    "lsisas1078": "megasas",
    "vmpvscsi": "pvscsi",
    "am53c974": "am53c974",
    "dc390": "dc390",
}
"""QEMU's device for each model that is not virtio."""

SERIAL_MODELS: Final = (None, "virtio", "virtio-transitional", "virtio-non-transitional")

BUILT_IN: Final = {("pc", "ide"): (1, 1), ("isapc", "ide"): None, ("q35", "sata"): (0x1F, 2)}
"""Slot and function of the controllers built into machines, each the first of its type
(hw/i386/pc_piix.c, pc_q35.c)."""

OPTIONS: Final = {
    "ports": ("usb", "virtio-serial"),
    "vectors": ("virtio-serial",),
    "first_port": ("usb",),
    "queues": ("scsi",),
    "commands_per_lun": ("scsi",),
    "max_sectors": ("scsi",),
    "ioeventfd": ("scsi",),
    "iothread": ("scsi",),
    "iommu": ("scsi", "virtio-serial"),
    "ats": ("scsi", "virtio-serial"),
    "packed": ("scsi", "virtio-serial"),
    "page_per_vq": ("scsi", "virtio-serial"),
    "implementation": ("pci",),
    "chassis_number": ("pci",),
    "chassis": ("pci",),
    "port": ("pci",),
    "bus_number": ("pci",),
    "numa_node": ("pci",),
    "hotplug": ("pci",),
    "reserved_memory": ("pci",),
    "hole": ("pci",),
}
"""Which fields mean something for which types of controllers."""

VIRTIO_ONLY: Final = (
    "queues", "commands_per_lun", "max_sectors", "ioeventfd", "iothread", "iommu", "ats", "packed",
    "page_per_vq",
)  # fmt: skip
"""Fields that only the virtio models of SCSI controllers have."""


def parts(context: Context) -> Iterator[Part]:
    """Yield options and devices of all controllers, which have their indexes."""
    devices = tuple(controllers_of(context.machine))
    build_pci = pci_builder([one.value for one in devices if one.value.type == "pci"])

    def build(device: "Named[Controller]", context: Context) -> Iterator[Found]:
        yield from _check(device, context.machine)
        builders = {"pci": build_pci, "usb": build_usb}
        yield from builders.get(device.value.type, _other)(device, context)

    for device in sorted(devices, key=_order):
        yield from attempt(build, device, context)


def _order(device: "Named[Controller]") -> tuple[int, int]:
    """Return what controllers are sorted by: buses of PCI by their numbers, then those of USB.

    USB controllers with a bus come before the companions that share it.
    """
    controller = device.value
    if controller.type == "pci":
        return 0, controller.index or 0
    if controller.type == "usb":
        return 1, int(controller.first_port is not None)
    return 2, 0


def _check(device: "Named[Controller]", machine: Machine) -> Iterator[Unsupported]:
    controller = device.value
    if any(_has_same_number(controller, one) for one in before(device, machine.controllers)):
        yield device.mistake(
            "index",
            "another controller has this index",
            "give each controller of this type an index of its own",
        )
    for field, types in OPTIONS.items():
        if getattr(controller, field) is not None and controller.type not in types:
            name = field.replace("_", "-")
            yield device.refusal(
                field,
                f"a controller of type '{controller.type}' has no {name}",
                f"leave out {name}",
            )
    if controller.iothreads and controller.type != "scsi":
        yield device.refusal(
            "iothreads",
            f"a controller of type '{controller.type}' has no queues",
            "leave the threads out",
        )
    if controller.model is not None and controller.type in ("ide", "fdc", "sata", "ccid"):
        yield device.refusal(
            "model",
            f"there is only one model of {controller.type} controller",
            "leave the model out",
        )


def _has_same_number(one: "Controller", other: "Controller") -> bool:
    """Say whether two controllers of one type have one number, and share no bus."""
    alone = one.first_port is None and other.first_port is None
    return alone and (one.type, one.index) == (other.type, other.index)


def _other(device: "Named[Controller]", context: Context) -> Iterator[Found]:
    controller = device.value
    if controller.type in ("ide", "sata"):
        yield from _disks(device, context)
    elif controller.type == "fdc":
        yield from _check_floppies(device, context)
    elif controller.type == "scsi":
        yield from _scsi(device, context)
    elif controller.type == "virtio-serial":
        yield from _virtio_serial(device, context)
    elif controller.type == "ccid":
        yield Device(
            "usb-ccid", device.id, device.key, {}, slot=Slot.USB, address=controller.address
        )


def _disks(device: "Named[Controller]", context: Context) -> Iterator[Found]:
    controller = device.value
    kind = (context.family, controller.type)
    if controller.index == 0 and kind in BUILT_IN:
        where = controller.address
        given = where is not None and where.is_pci_place
        if where and given and (where.slot, where.function or 0) != BUILT_IN[kind]:
            yield device.refusal(
                "address",
                "the machine has this controller at another address",
                "leave the address out",
            )
    elif controller.type == "ide":
        yield device.refusal(
            "",
            f"'{context.machine_type}' has no such IDE controller",
            "remove the controller, and use the bus 'sata' or 'virtio' for its disks",
        )
    else:
        yield Device(
            "ich9-ahci",
            device.id,
            device.key,
            {},
            slot=Slot.CONVENTIONAL,
            address=controller.address,
        )


def _check_floppies(device: "Named[Controller]", context: Context) -> Iterator[Unsupported]:
    """The machine has it, or the floppy drives bring it with them."""
    controller = device.value
    if controller.index:
        yield device.refusal(
            "index", "a machine has only one floppy controller", "remove this controller"
        )
    if context.family not in ("pc", "isapc", "q35"):
        yield device.refusal(
            "",
            f"'{context.machine_type}' has no floppy controller",
            "remove the controller, or use the machine type 'pc' or 'q35'",
        )


def _scsi(device: "Named[Controller]", context: Context) -> Iterator[Found]:
    controller = device.value
    model = scsi_model(controller, context.capabilities)
    if model in VIRTIO_SCSI:
        yield from _virtio_scsi(device, context.virtio("virtio-scsi", model), context)
        return
    driver = SCSI_DRIVERS.get(model)
    if driver is None:
        raise device.refusal(
            "model",
            f"the SCSI controller model '{model}' is not supported",
            "choose another model, such as virtio-scsi",
        )
    yield from _refuse_virtio_options(device, model)
    yield Device(
        driver, device.id, device.key, {}, slot=Slot.CONVENTIONAL, address=controller.address
    )


def _virtio_scsi(device: "Named[Controller]", driver: str, context: Context) -> Iterator[Found]:
    controller = device.value
    mapping = queue_mapping(device, context)
    if mapping and not context.capabilities.has_property(driver, "iothread-vq-mapping"):
        yield device.refusal(
            "iothreads",
            f"'{driver}' of this QEMU can use one I/O thread at most",
            "leave one thread, or use a QEMU that spreads the queues over threads",
        )
    properties: dict[str, object] = {
        **virtio_properties(controller),
        "iothread": thread_of(device, context),
        "iothread-vq-mapping": mapping,
        "num_queues": controller.queues or None,
        "cmd_per_lun": controller.commands_per_lun or None,
        "max_sectors": controller.max_sectors or None,
        "ioeventfd": controller.ioeventfd,
    }
    slot = virtio_slot(controller.model)
    yield Device(driver, device.id, device.key, properties, slot=slot, address=controller.address)


def _refuse_virtio_options(device: "Named[Controller]", model: str) -> Iterator[Unsupported]:
    controller = device.value
    for field in VIRTIO_ONLY:
        if getattr(controller, field) is not None:
            name = field.replace("_", "-")
            yield device.refusal(
                field,
                f"the SCSI controller '{model}' has no {name}",
                f"leave out {name}, or choose the model 'virtio-scsi'",
            )
    if controller.iothreads:
        yield device.refusal(
            "iothreads",
            f"the SCSI controller '{model}' has no queues",
            "choose the model 'virtio-scsi', or leave the threads out",
        )


def _virtio_serial(device: "Named[Controller]", context: Context) -> Iterator[Found]:
    controller = device.value
    if controller.model not in SERIAL_MODELS:
        yield device.refusal(
            "model",
            "expected virtio, virtio-transitional or virtio-non-transitional",
            "choose one of these",
        )
    elif not context.has_pci and controller.model not in (None, "virtio"):
        yield device.refusal(
            "model",
            "without a PCI bus there is only the model virtio",
            "choose the model 'virtio', or leave it out",
        )
    if not context.has_pci and controller.vectors is not None:
        yield device.refusal("vectors", "vectors exist only on a PCI bus", "leave the vectors out")
    properties = {
        **virtio_properties(controller),
        "max_ports": controller.ports,
        "vectors": controller.vectors,
    }
    driver = context.virtio("virtio-serial", controller.model)
    slot = virtio_slot(controller.model)
    yield Device(driver, device.id, device.key, properties, slot=slot, address=controller.address)
