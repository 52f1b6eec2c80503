# SPDX-License-Identifier: LGPL-2.1-or-later
"""Everything that carries characters between guest and host, and the TPM.

chardevs       what stands behind: files, sockets, terminals, channels of a display
ports          serial and parallel ports
channels       consoles and channels of virtio-serial, channels of the guest's network
virtio_ports   which of them is at which port of which controller
redirection    USB devices that come over a character device
smartcards     the card in the reader
tpm            the TPM and its process
"""

from collections.abc import Iterator

from bpferry.qemu.commandline.characters.channels import channel_parts, console_parts
from bpferry.qemu.commandline.characters.chardevs import BackEnds
from bpferry.qemu.commandline.characters.ports import parallel_parts, serial_parts
from bpferry.qemu.commandline.characters.redirection import redirection_parts
from bpferry.qemu.commandline.characters.smartcards import smart_card_parts
from bpferry.qemu.commandline.characters.tpm import tpm_parts
from bpferry.qemu.commandline.context import Context
from bpferry.qemu.commandline.parts import Part


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
