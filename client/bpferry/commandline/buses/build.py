# SPDX-License-Identifier: LGPL-2.1-or-later
"""What other devices are attached to: controllers, and hubs for USB."""

from collections.abc import Iterator

from bpferry.commandline.buses import controllers
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Part


def parts(context: Context) -> Iterator[Part]:
    """Yield what the VM has of them, in the order in which QEMU needs them."""
    yield from controllers.parts(context)
    if context.machine.hubs:
        from bpferry.commandline.buses import hubs  # noqa: PLC0415 - few VMs have any

        yield from hubs.parts(context)
