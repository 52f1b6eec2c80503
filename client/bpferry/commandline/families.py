# SPDX-License-Identifier: LGPL-2.1-or-later
"""The families of parts of which a VM may have none. Each is imported when a VM has some of it."""

# ruff: noqa: PLC0415 - that is what this module is for

from collections.abc import Iterator

from bpferry.commandline.context import Context
from bpferry.commandline.parts import Option, Part


def storage(context: Context) -> Iterator[Part]:
    """Yield the nodes and devices of drives."""
    if context.machine.disks:
        from bpferry.commandline.storage.build import parts

        yield from parts(context)


def network(context: Context) -> Iterator[Part]:
    """Yield the cards, and what is behind them."""
    if context.machine.cards:
        from bpferry.commandline.network.build import parts

        yield from parts(context)


def characters(context: Context) -> Iterator[Part]:
    """Yield ports, channels and other streams of characters."""
    machine = context.machine
    lines = machine.serials or machine.parallels or machine.consoles or machine.channels
    others = machine.smart_cards or machine.redirected_devices or machine.redirection_rules
    if lines or others or machine.tpms:
        from bpferry.commandline.characters.build import parts

        yield from parts(context)


def displays(context: Context) -> Iterator[Part]:
    """Yield what a person sees, hears and touches."""
    machine = context.machine
    if machine.inputs or machine.audios or machine.graphics or machine.videos or machine.sounds:
        from bpferry.commandline.displays.build import parts

        yield from parts(context)
    else:
        # Otherwise QEMU opens a window, or listens for VNC if it cannot.
        yield Option("-display", "none")


def host_devices(context: Context) -> Iterator[Part]:
    """Yield what the guest gets of the host's devices."""
    if context.machine.host_devices:
        from bpferry.commandline.host_devices.build import parts

        yield from parts(context)
