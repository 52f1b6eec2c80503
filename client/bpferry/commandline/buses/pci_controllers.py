# SPDX-License-Identifier: LGPL-2.1-or-later
"""PCI controllers of the document: bridges, ports, switches and expanders.

The root is part of the machine. Each other one is a device called ``pci.N``, whose bus has that
name.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from bpferry.commandline.buses.pci import MODELS
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device, Found, Option, Slot
from bpferry.domain.names import Named, chosen
from bpferry.domain.shown import any_of
from bpferry.errors import Unsupported

if TYPE_CHECKING:
    from bpferry.commandline.attempt import Builder
    from bpferry.domain.model.controllers import Controller

ROOTS: Final = ("pci-root", "pcie-root")

DRIVERS: Final = {name: model.drivers for name, model in MODELS.items() if model.drivers}
"""QEMU's devices for each model but the roots, the usual one first."""

PORTS: Final = frozenset({"pcie-root-port", "pcie-switch-downstream-port"})
EXPANDERS: Final = frozenset({"pci-expander-bus", "pcie-expander-bus"})

FIELDS: Final = {
    "chassis_number": frozenset({"pci-bridge"}),
    "chassis": PORTS,
    "port": PORTS,
    "hotplug": PORTS | {"pci-root"},
    "bus_number": EXPANDERS,
    "numa_node": EXPANDERS,
    "reserved_memory": frozenset({"pci-bridge", "pcie-root-port"}),
    "hole": frozenset(ROOTS),
    "implementation": frozenset(DRIVERS),
}
"""Which fields mean something for which models."""

USUAL_PLACES: Final = {("q35", "dmi-to-pci-bridge"): ("1e",)}
"""As on Intel's boards, by machine family and model."""

LAST_BUS: Final = 256
"""Bus numbers of expanders count down from here, two apart, as in libvirt."""


def pci_builder(controllers: "Sequence[Controller]") -> "Builder[Controller]":
    """Return what builds one of *controllers*, which are all PCI, in the order of their buses."""
    numbers = _bus_numbers(controllers)

    def build(device: "Named[Controller]", context: Context) -> Iterator[Found]:
        controller = device.value
        yield from _check(device, context)
        if controller.model in ROOTS:
            yield from _root_options(controller, context)
        elif controller.model in DRIVERS:
            index = controller.index or 0
            yield Device(
                _driver(controller),
                f"pci.{index}",
                device.key,
                _properties(controller, index, numbers),
                slot=Slot.CONVENTIONAL,
                address=controller.address,
                usual=USUAL_PLACES.get((context.family, controller.model), ()),
            )

    return build


def _driver(controller: "Controller") -> str:
    possible = DRIVERS[controller.model or ""]
    return controller.implementation if controller.implementation in possible else possible[0]


def _check(device: "Named[Controller]", context: Context) -> Iterator[Unsupported]:
    controller = device.value
    model = controller.model
    if model is None or (model not in DRIVERS and model not in ROOTS):
        possible = ", ".join((*ROOTS, *DRIVERS))
        raise device.mistake(
            "model", f"expected a PCI controller: {possible}", "choose one of these"
        )
    if not context.has_pci:
        raise device.refusal(
            "",
            f"the machine '{context.machine_type}' has no PCI bus",
            "remove the controller, or choose a machine type with PCI, such as 'q35'",
        )
    if chosen(controller):
        yield device.refusal(
            "alias", "PCI buses have the names pci.0, pci.1 and so on", "leave the alias out"
        )
    yield from _check_fields(device)
    where = controller.address
    if where is not None and where.is_pci_place and (where.bus or 0) >= (controller.index or 0):
        yield device.mistake(
            "address.bus",
            "the controller of its bus has to come before it",
            "give it a lower bus, or move the controller of its bus before it",
        )
    wanted = "pcie-root" if context.has_pci_express else "pci-root"
    is_root = model in ROOTS
    if (controller.index == 0) != is_root:
        yield device.mistake(
            "index",
            "index 0 is the root bus, and the root bus has index 0",
            "give the root bus the index 0, and every other controller a higher one",
        )
    if is_root and model != wanted:
        yield device.refusal(
            "model",
            f"the machine '{context.machine_type}' has a {wanted}",
            f"choose '{wanted}', or another machine type",
        )
    if not is_root and model not in ("pci-bridge", "pci-expander-bus") and wanted == "pci-root":
        yield device.refusal(
            "model",
            "this machine has no PCI Express",
            "choose a model of conventional PCI, or the machine type 'q35'",
        )
    if model == "pci-expander-bus" and wanted == "pcie-root":
        yield device.refusal(
            "model",
            "on a machine with PCI Express, use pcie-expander-bus",
            "choose the model 'pcie-expander-bus'",
        )


def _check_fields(device: "Named[Controller]") -> Iterator[Unsupported]:
    controller = device.value
    model = controller.model or ""
    for field, models in FIELDS.items():
        if getattr(controller, field) is not None and model not in models:
            yield device.refusal(
                field,
                f"a controller of model '{model}' has no {field.replace('_', '-')}",
                f"leave out {field.replace('_', '-')}",
            )
    if controller.implementation not in (None, *DRIVERS.get(model, ())):
        yield device.mistake(
            "implementation",
            f"expected {any_of(DRIVERS[model])}",
            "choose one of these, or leave it out",
        )


def _root_options(controller: "Controller", context: Context) -> Iterator[Option]:
    if controller.hotplug is not None:
        word = "on" if controller.hotplug else "off"
        yield Option("-global", f"PIIX4_PM.acpi-root-pci-hotplug={word}")
    if controller.hole is not None:
        host = "q35-pcihost" if context.has_pci_express else "i440FX-pcihost"
        yield Option("-global", f"{host}.pci-hole64-size={-(-controller.hole // 1024)}K")


def _properties(controller: "Controller", index: int, numbers: dict[int, int]) -> dict[str, object]:
    if controller.model in EXPANDERS:
        return {"bus_nr": numbers[index], "numa_node": controller.numa_node}
    reserved = controller.reserved_memory
    memory = {"mem-reserve": None if reserved is None else reserved * 1024}
    if controller.model == "pci-bridge":
        number = controller.chassis_number
        return {"chassis_nr": index if number is None else number, **memory}
    if controller.model in PORTS:
        return {
            "port": controller.port,
            "chassis": index if controller.chassis is None else controller.chassis,
            "hotplug": controller.hotplug,
            **memory,
        }
    return {}


def _bus_numbers(controllers: "Sequence[Controller]") -> dict[int, int]:
    """Return where the bus numbers of each expander begin, by its index."""
    expanders = [controller for controller in controllers if controller.model in EXPANDERS]
    given = [one.bus_number for one in expanders if one.bus_number is not None]
    following = min([LAST_BUS, *given])
    numbers = {}
    for controller in expanders:
        number = controller.bus_number
        if number is None:
            following -= 2
            number = following
        numbers[controller.index or 0] = number
    return numbers
