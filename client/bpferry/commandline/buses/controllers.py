# SPDX-License-Identifier: LGPL-2.1-or-later
"""Controllers: what other devices are attached to, in the order in which QEMU needs them."""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.buses.controller_ids import VIRTIO_SCSI, id_of, scsi_model
from bpferry.commandline.buses.pci_controllers import pci_parts
from bpferry.commandline.buses.usb_controllers import usb_devices
from bpferry.commandline.context import Context, unsupported, virtio_properties
from bpferry.commandline.parts import Device, Part, Slot
from bpferry.commandline.threads import queue_mapping, thread_of
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
"""Slot and function of the controllers that machines have themselves, each the first of its type
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
"""Which types of controllers take what."""

VIRTIO_ONLY: Final = (
    "queues", "commands_per_lun", "max_sectors", "ioeventfd", "iothread", "iommu", "ats", "packed",
    "page_per_vq",
)  # fmt: skip
"""What only the virtio models of SCSI controllers take."""


def parts(context: Context) -> Iterator[Part]:
    """Yield options and devices of all controllers, which have their indexes."""
    keyed = [(f"controllers[{n}]", one) for n, one in enumerate(context.machine.controllers)]
    seen: set[tuple[str, int | None, bool]] = set()
    for key, controller in keyed:
        _check(controller, key)
        place = (controller.type, controller.index, controller.first_port is None)
        if controller.first_port is None and place in seen:
            raise unsupported(f"{key}.index", "there is another controller with this number")
        seen.add(place)
    yield from pci_parts([pair for pair in keyed if pair[1].type == "pci"], context)
    yield from usb_devices([pair for pair in keyed if pair[1].type == "usb"], context)
    for key, controller in keyed:
        yield from _other(controller, key, context)


def _check(controller: Controller, key: str) -> None:
    for field, types in OPTIONS.items():
        if getattr(controller, field) is not None and controller.type not in types:
            name = field.replace("_", "-")
            raise unsupported(f"{key}.{name}", f"a {controller.type} controller has no {name}")
    if controller.iothreads and controller.type != "scsi":
        raise unsupported(f"{key}.iothreads", f"a {controller.type} controller has no queues")
    if controller.model is not None and controller.type in ("ide", "fdc", "sata", "ccid"):
        raise unsupported(f"{key}.model", f"there is one kind of {controller.type} controller")


def _other(controller: Controller, key: str, context: Context) -> Iterator[Device]:
    if controller.type in ("ide", "sata"):
        yield from _disks(controller, key, context)
    elif controller.type == "fdc":
        _check_floppies(controller, key, context)
    elif controller.type == "scsi":
        yield _scsi(controller, key, context)
    elif controller.type == "virtio-serial":
        yield _virtio_serial(controller, key, context)
    elif controller.type == "ccid":
        yield Device("usb-ccid", id_of(controller), key, {}, Slot.USB, controller.address)


def _disks(controller: Controller, key: str, context: Context) -> Iterator[Device]:
    kind = (context.family, controller.type)
    if controller.index == 0 and kind in BUILT_IN:
        where = controller.address
        given = where is not None and where.is_pci_place
        if where and given and (where.slot, where.function or 0) != BUILT_IN[kind]:
            raise unsupported(f"{key}.address", "the machine has put this controller elsewhere")
    elif controller.type == "ide":
        raise unsupported(key, f"'{context.machine_type}' has no such IDE controller")
    else:
        yield Device("ich9-ahci", id_of(controller), key, {}, Slot.CONVENTIONAL, controller.address)


def _check_floppies(controller: Controller, key: str, context: Context) -> None:
    """The machine has it, or the floppy drives bring it with them."""
    if controller.index:
        raise unsupported(f"{key}.index", "there is one floppy controller")
    if context.family not in ("pc", "isapc", "q35"):
        raise unsupported(key, f"'{context.machine_type}' has no floppy controller")


def _scsi(controller: Controller, key: str, context: Context) -> Device:
    model = scsi_model(controller, context.capabilities)
    if model not in VIRTIO_SCSI:
        driver = SCSI_DRIVERS.get(model)
        if driver is None:
            raise unsupported(f"{key}.model", f"QEMU has no SCSI controller '{model}' here")
        _refuse_virtio_options(controller, key, model)
        return Device(driver, id_of(controller), key, {}, Slot.CONVENTIONAL, controller.address)
    mapping = queue_mapping(controller, key, context)
    driver = context.virtio("virtio-scsi", model)
    if mapping and not context.capabilities.has_property(driver, "iothread-vq-mapping"):
        raise unsupported(f"{key}.iothreads", f"'{driver}' of this QEMU has one thread at most")
    properties: dict[str, object] = {
        **virtio_properties(controller),
        "iothread": thread_of(controller, key, context),
        "iothread-vq-mapping": mapping,
        "num_queues": controller.queues or None,
        "cmd_per_lun": controller.commands_per_lun or None,
        "max_sectors": controller.max_sectors or None,
        "ioeventfd": controller.ioeventfd,
    }
    return Device(driver, id_of(controller), key, properties, Slot.EXPRESS, controller.address)


def _refuse_virtio_options(controller: Controller, key: str, model: str) -> None:
    for field in VIRTIO_ONLY:
        if getattr(controller, field) is not None:
            name = field.replace("_", "-")
            raise unsupported(f"{key}.{name}", f"the SCSI controller '{model}' has no {name}")
    if controller.iothreads:
        raise unsupported(f"{key}.iothreads", f"the SCSI controller '{model}' has no queues")


def _virtio_serial(controller: Controller, key: str, context: Context) -> Device:
    if controller.model not in SERIAL_MODELS:
        raise unsupported(f"{key}.model", "expected virtio, or one with its transitional ending")
    properties = {
        **virtio_properties(controller),
        "max_ports": controller.ports,
        "vectors": controller.vectors,
    }
    if not context.has_pci and controller.model not in (None, "virtio"):
        raise unsupported(f"{key}.model", "there is one model without PCI")
    driver = context.virtio("virtio-serial", controller.model)
    if not context.has_pci and controller.vectors is not None:
        raise unsupported(f"{key}.vectors", "there are vectors with PCI alone")
    return Device(driver, id_of(controller), key, properties, Slot.EXPRESS, controller.address)
