# SPDX-License-Identifier: LGPL-2.1-or-later
"""Watchdogs. A q35 machine has one without being asked: the iTCO timer of its chipset."""

from collections.abc import Iterator

from bpferry.commandline.applicable import check_address
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device, Option, Part, Slot
from bpferry.domain.model.extras import Watchdog
from bpferry.domain.names import Named, named


def parts(context: Context) -> Iterator[Part]:
    """Yield the watchdogs, and what QEMU does when one of them fires."""
    watchdogs = context.machine.watchdogs
    for device in named(watchdogs, "watchdogs", "watchdog"):
        watchdog = device.value
        _check(context, device)
        if watchdog.model == "i6300esb":
            yield Device(
                "i6300esb", device.id, device.key, slot=Slot.CONVENTIONAL, address=watchdog.address
            )
        elif watchdog.model == "ib700":
            yield Device("ib700", device.id, device.key)
    if context.family == "q35":
        # Up to QEMU 7.2, a strap that is on by default keeps the timer from doing anything.
        yield Option("-global", "ICH9-LPC.noreboot=off")
    if watchdogs or context.family == "q35":
        yield Option("-watchdog-action", watchdogs[0].action if watchdogs else "reset")


def _check(context: Context, device: Named[Watchdog]) -> None:
    watchdog = device.value
    if watchdog.action != context.machine.watchdogs[0].action:
        raise device.refusal("action", "QEMU does the same whichever watchdog fires")
    model, family = watchdog.model, context.family
    check_address(device, *(("pci",) if model == "i6300esb" else ()))
    if model == "itco" and family != "q35":
        raise device.refusal("model", "the iTCO timer is a part of q35 machines")
    if model == "ib700" and family != "pc":
        raise device.refusal("model", "the machine type 'pc' alone has the ISA bus for it")
    if model == "itco" and watchdog.alias is not None and watchdog.alias.startswith("ua-"):
        raise device.refusal("alias", "it is a part of the machine, and has no id of its own")
