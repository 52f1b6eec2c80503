# SPDX-License-Identifier: LGPL-2.1-or-later
"""Watchdogs. A q35 machine always has one: the iTCO timer of its chipset."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bpferry.commandline.applicable import check_address
from bpferry.commandline.attempt import attempt
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device, Found, Option, Part, Slot
from bpferry.domain.names import Named, named
from bpferry.errors import Unsupported

if TYPE_CHECKING:
    from bpferry.domain.model.extras import Watchdog


def parts(context: Context) -> Iterator[Part]:
    """Yield the watchdogs, and what QEMU does when one of them fires."""
    watchdogs = context.machine.watchdogs
    for device in named(watchdogs, "watchdogs", "watchdog"):
        yield from attempt(_watchdog, device, context)
    if context.family == "q35":
        # Up to QEMU 7.2, a strap that is on by default keeps the timer from having an effect.
        yield Option("-global", "ICH9-LPC.noreboot=off")
    if watchdogs or context.family == "q35":
        yield Option("-watchdog-action", watchdogs[0].action if watchdogs else "reset")


def _watchdog(device: "Named[Watchdog]", context: Context) -> Iterator[Found]:
    watchdog = device.value
    yield from _check(context, device)
    if watchdog.model == "i6300esb":
        where = watchdog.address
        yield Device("i6300esb", device.id, device.key, slot=Slot.CONVENTIONAL, address=where)
    elif watchdog.model == "ib700":
        yield Device("ib700", device.id, device.key)


def _check(context: Context, device: "Named[Watchdog]") -> Iterator[Unsupported]:
    watchdog = device.value
    if watchdog.action != context.machine.watchdogs[0].action:
        yield device.refusal(
            "action",
            "QEMU has one action for all watchdogs",
            "write the same action for all of them",
        )
    model, family = watchdog.model, context.family
    yield from check_address(device, *(("pci",) if model == "i6300esb" else ()))
    if model == "itco" and family != "q35":
        yield device.refusal(
            "model",
            "only q35 machines have the iTCO timer",
            "choose another model, such as 'i6300esb', or the machine type 'q35'",
        )
    if model == "ib700" and family != "pc":
        yield device.refusal(
            "model",
            "only the machine type 'pc' has the ISA bus for it",
            "choose another model, such as 'i6300esb', or the machine type 'pc'",
        )
    if model == "itco" and watchdog.alias is not None and watchdog.alias.startswith("ua-"):
        yield device.refusal(
            "alias", "it is part of the machine, and has no id of its own", "leave the alias out"
        )
