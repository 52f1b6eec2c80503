# SPDX-License-Identifier: LGPL-2.1-or-later
"""Everything that carries characters between guest and host, and the TPM.

Each kind but the ports is imported when a VM has some of it.
"""

# ruff: noqa: PLC0415 - see above

from collections.abc import Iterator

from bpferry.commandline.characters.chardevs import BackEnds
from bpferry.commandline.characters.ports import parallel_parts, serial_parts
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Part


def parts(context: Context) -> Iterator[Part]:
    """Yield what the VM has of them."""
    machine, back_ends = context.machine, BackEnds(context)
    if machine.smart_cards:
        from bpferry.commandline.characters.smartcards import smart_card_parts

        yield from smart_card_parts(context, back_ends)
    yield from serial_parts(context, back_ends)
    yield from parallel_parts(context, back_ends)
    if machine.channels or any(console.target == "virtio" for console in machine.consoles):
        from bpferry.commandline.characters.channels import channel_parts, console_parts

        yield from channel_parts(context, back_ends)
        yield from console_parts(context, back_ends)
    if machine.tpms:
        from bpferry.commandline.characters.tpm import tpm_parts

        yield from tpm_parts(context)
    if machine.redirected_devices:
        from bpferry.commandline.characters.redirection import redirection_parts

        yield from redirection_parts(context, back_ends)
