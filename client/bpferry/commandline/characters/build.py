# SPDX-License-Identifier: LGPL-2.1-or-later
"""Everything that carries characters between guest and host, and the TPM."""

from collections.abc import Iterator

from bpferry.commandline.characters.channels import channel_parts, console_parts
from bpferry.commandline.characters.chardevs import BackEnds
from bpferry.commandline.characters.ports import parallel_parts, serial_parts
from bpferry.commandline.characters.redirection import redirection_parts
from bpferry.commandline.characters.smartcards import smart_card_parts
from bpferry.commandline.characters.tpm import tpm_parts
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Part


def parts(context: Context) -> Iterator[Part]:
    """Yield what the VM has of them."""
    back_ends = BackEnds(context)
    yield from smart_card_parts(context, back_ends)
    yield from serial_parts(context, back_ends)
    yield from parallel_parts(context, back_ends)
    yield from channel_parts(context, back_ends)
    yield from console_parts(context, back_ends)
    yield from tpm_parts(context)
    yield from redirection_parts(context, back_ends)
