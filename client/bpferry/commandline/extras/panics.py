# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tells the host that the guest's kernel has panicked."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bpferry.commandline.applicable import check_address
from bpferry.commandline.attempt import attempt
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device, Found, Part, Slot
from bpferry.domain.names import Named, before, named

if TYPE_CHECKING:
    from bpferry.domain.model.extras import Panic


def parts(context: Context) -> Iterator[Part]:
    """Yield the devices; what Windows writes to is a feature of the processor."""
    for device in named(context.machine.panics, "panics", "panic"):
        yield from attempt(_panic, device, context)


def _panic(device: "Named[Panic]", context: Context) -> Iterator[Found]:
    panic = device.value
    model = _model(context, panic)
    if any(_model(context, one) == model for one in before(device, context.machine.panics)):
        yield device.refusal(
            "", f"the VM has a panic device of model '{model}' already", "remove one of them"
        )
    if model in ("isa", "hyperv") and not context.is_x86:
        yield device.refusal(
            "model",
            f"'{model}' is for x86 only",
            "remove the device, or choose the model 'pvpanic'",
        )
    if model == "pvpanic":
        yield from check_address(device, "pci")
        yield Device(
            "pvpanic-pci", device.id, device.key, {}, slot=Slot.INTEGRATED, address=panic.address
        )
    elif model == "isa":
        yield from check_address(device, "isa")
        yield Device("pvpanic", device.id, device.key, {"ioport": _port(device)})
    else:
        yield from check_address(device)


def cpu_words(context: Context) -> Iterator[str]:
    """Yield the property of ``-cpu`` for the registers in which Windows reports a crash."""
    if any(panic.model == "hyperv" for panic in context.machine.panics):
        yield "hv-crash=on"


def _model(context: Context, panic: "Panic") -> str:
    return panic.model or ("isa" if context.is_x86 else "pvpanic")


def _port(device: "Named[Panic]") -> int | None:
    panic = device.value
    if panic.address is None:
        return None
    if panic.address.irq is not None:
        raise device.mistake("address.irq", "it raises no interrupt", "leave it out")
    return panic.address.iobase
