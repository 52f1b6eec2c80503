# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether the processes listen to which QEMU connects for disks, cards and shared folders.

QEMU connects to their sockets when it starts, and does not start without them, unless it is to try
again. Sockets of character devices are with ``character_sources``.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from bpferry.domain.model.machine import Machine
from bpferry.domain.names import Named, cards_of, named
from bpferry.domain.remaining import numbered
from bpferry.errors import NotReady
from bpferry.machine.character_sources import why_not_connected

if TYPE_CHECKING:
    from bpferry.domain.model.disks import Disk, Image

START_FIRST: Final = "first start what the VM should connect to, or correct the path"


def find_missing_servers(machine: Machine) -> Iterator[NotReady]:
    """Yield each socket to which QEMU could not connect; the element is a key of the model."""
    for key, path in (*_of_cards(machine), *_of_disks(machine), *_of_folders(machine)):
        problem, fix = why_not_connected(path, START_FIRST)
        if problem:
            yield NotReady(problem, fix, key)


def _of_cards(machine: Machine) -> Iterator[tuple[str, str]]:
    for device in cards_of(machine):
        card = device.value
        is_client = card.type == "vhostuser" and card.socket_mode != "server"
        if is_client and card.socket and card.backend != "passt" and not card.reconnect:
            yield f"{device.key}.socket", card.socket


def _of_disks(machine: Machine) -> Iterator[tuple[str, str]]:
    for device in named(machine.disks, "disks", "disk"):
        disk = device.value
        if disk.type == "vhostuser" and disk.socket and not disk.reconnect:
            yield f"{device.key}.socket", disk.socket
        for key, image in _images(device):
            if image.type == "network" and image.protocol == "nbd":
                for number, host in numbered(image.hosts):
                    if host.transport == "unix" and host.socket:
                        yield f"{key}.hosts[{number}].socket", host.socket


def _of_folders(machine: Machine) -> Iterator[tuple[str, str]]:
    for device in named(machine.filesystems, "filesystems", "fs"):
        if device.value.socket:
            yield f"{device.key}.socket", device.value.socket


def _images(device: "Named[Disk]") -> "Iterator[tuple[str, Image]]":
    """Yield each image of a disk that the document names, with its key."""
    from bpferry.machine.images import layers_of  # noqa: PLC0415 - where there is a disk

    for key, image in layers_of(device.value, device.key):
        yield key, image
        if image.data_file is not None:
            yield f"{key}.data-file", image.data_file
