# SPDX-License-Identifier: LGPL-2.1-or-later
"""USB controllers. One of USB 2 may have companions for slower devices, which share its bus."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from bpferry.commandline.buses.controller_ids import bus_of
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device, Found, Slot
from bpferry.domain.names import Named, chosen
from bpferry.domain.shown import all_of

if TYPE_CHECKING:
    from bpferry.domain.model.controllers import Controller

DRIVERS: Final = {
    "piix3-uhci": "piix3-usb-uhci",
    "piix4-uhci": "piix4-usb-uhci",
    "ehci": "usb-ehci",
    "ich9-ehci1": "ich9-usb-ehci1",
    "ich9-uhci1": "ich9-usb-uhci1",
    "ich9-uhci2": "ich9-usb-uhci2",
    "ich9-uhci3": "ich9-usb-uhci3",
    "vt82c686b-uhci": "vt82c686b-usb-uhci",
    "pci-ohci": "pci-ohci",
    "nec-xhci": "nec-usb-xhci",
    "qemu-xhci": "qemu-xhci",
}
"""QEMU's device for each model."""

XHCI: Final = frozenset({"nec-xhci", "qemu-xhci"})

COMPANIONS: Final = {"ich9-uhci1": 0, "ich9-uhci2": 2, "ich9-uhci3": 4}
"""Which of the six ports of the USB 2 controller a companion takes care of first."""

GROUP: Final = ("ich9-ehci1", *COMPANIONS)

FUNCTIONS: Final = {"ich9-ehci1": 7, "ich9-uhci1": 0, "ich9-uhci2": 1, "ich9-uhci3": 2}
"""Functions of the slot that a group shares (Intel ICH9, 5.20)."""

GROUP_SLOTS: Final = ("1d", "1a")
"""Where the first two groups sit on Intel's boards."""

MAX_XHCI_PORTS: Final = 15
"""hw/usb/hcd-xhci.h, XHCI_MAXPORTS_2 and _3."""


def build_usb(device: "Named[Controller]", context: Context) -> Iterator[Found]:
    """Yield the controller *device*, unless its model is ``none``."""
    model = _model(device, context)
    if model != "none":
        yield _device(device, model, context)
    elif sum(one.type == "usb" for one in context.machine.controllers) > 1:
        yield device.mistake(
            "model",
            "'none' contradicts the other USB controllers",
            "remove the controller with 'none', or the others",
        )


def default_model(family: str) -> str:
    """Return the model of a controller that exists although the document does not name it."""
    return {"pc": "piix3-uhci", "q35": "qemu-xhci"}.get(family, "qemu-xhci")


def _model(device: "Named[Controller]", context: Context) -> str:
    # A controller without a model is an old one on x86, whatever the machine (qemu_postparse.c).
    controller = device.value
    old = context.family in ("pc", "q35") and context.capabilities.has_device("piix3-usb-uhci")
    model = controller.model or ("piix3-uhci" if old else "qemu-xhci")
    if model != "none" and model not in DRIVERS:
        raise device.mistake(
            "model",
            f"there is no such USB controller; possible values: {', '.join(DRIVERS)}",
            "choose one of these, or leave the model out",
        )
    if controller.ports is not None and (
        model not in XHCI or not 1 <= controller.ports <= MAX_XHCI_PORTS
    ):
        raise device.refusal(
            "ports",
            f"only {all_of(sorted(XHCI))} can have another number of ports, 1 to 15",
            "leave the number of ports out, or choose the model 'qemu-xhci'",
        )
    return model


def _device(device: "Named[Controller]", model: str, context: Context) -> Device:
    controller = device.value
    properties: dict[str, object] = {"p2": controller.ports, "p3": controller.ports}
    index = controller.index or 0
    device_id = device.id
    if controller.first_port is not None:
        if model not in COMPANIONS:
            raise device.mistake(
                "first-port", f"'{model}' is not a companion controller", "leave the first port out"
            )
        bus = bus_of(context.machine, "usb", index)
        device_id = chosen(controller) or f"{bus}-{model.removeprefix('ich9-')}"
        properties |= {"masterbus": f"{bus}.0", "firstport": controller.first_port}
    return Device(
        DRIVERS[model],
        device_id,
        device.key,
        properties,
        slot=Slot.EXPRESS if model in XHCI else Slot.CONVENTIONAL,
        address=controller.address,
        usual=_usual(model, index, context.family),
        group=f"usb{index}" if model in FUNCTIONS else "",
        function=FUNCTIONS.get(model, 0),
    )


def _usual(model: str, index: int, family: str) -> tuple[str, ...]:
    """Return where it is on Intel's boards. The others of a group follow its first function."""
    if family == "q35" and model == "ich9-uhci1":
        return GROUP_SLOTS
    if family == "pc" and index == 0 and model == "piix3-uhci":
        return ("1.2",)
    return ()
