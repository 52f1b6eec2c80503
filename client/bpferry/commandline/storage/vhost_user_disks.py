# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks that another process serves over a vhost-user socket, such as qemu-storage-daemon."""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.context import Context
from bpferry.commandline.memory.shared_memory import SHARED, has_shared_memory
from bpferry.commandline.parts import Option, join
from bpferry.commandline.storage.blockdev import has_medium
from bpferry.domain.forms import either
from bpferry.domain.model.disks import Disk
from bpferry.domain.names import Named
from bpferry.errors import Unsupported

MILLISECONDS_SINCE: Final = (9, 2, 0)
"""From here on, ``reconnect-ms`` replaces ``reconnect`` (docs/about/deprecated.rst)."""

AGAIN: Final = either("reconnect = true", "enabled='yes' to <reconnect>")

NOT_HERE: Final = (
    "read_only", "cache", "io", "discard", "detect_zeroes", "discard_no_unref", "copy_on_read",
    "throttle", "throttle_groups", "slice", "backing", "data_file", "shareable", "metadata_cache",
)  # fmt: skip
"""What the other process decides."""


def chardev_of(device: Named[Disk]) -> str:
    """Return the id of the character device that reaches the other process."""
    return f"chr-vu-{device.id}"


def socket_of(device: Named[Disk], context: Context) -> Option:
    """Return the character device that reaches the other process."""
    disk = device.value
    seconds = (disk.reconnect_timeout or 1) if disk.reconnect else None
    modern = context.capabilities.version >= MILLISECONDS_SINCE
    value = join(
        "socket",
        id=chardev_of(device),
        path=disk.socket,
        reconnect=None if modern else seconds,
        reconnect_ms=seconds * 1000 if modern and seconds else None,
    )
    return Option("-chardev", value)


def check_vhost_user(device: Named[Disk], context: Context) -> Iterator[Unsupported]:
    """Refuse what cannot be set for a disk that another process serves."""
    disk = device.value
    if not has_shared_memory(context.machine):
        yield device.refusal(
            "",
            "the vhost-user process cannot reach the guest's memory",
            f"share it: {SHARED}",
        )
    for field in NOT_HERE:
        if getattr(disk, field) not in (None, False, (), "default"):
            yield device.refusal(
                field,
                "the vhost-user process decides this",
                "leave it out, and set it where that process is started",
            )
    if (disk.format or "raw") != "raw":
        yield device.refusal(
            "format",
            "the vhost-user process provides raw blocks",
            "write 'raw', or leave the format out",
        )
    if has_medium(disk) or not disk.socket:
        yield device.mistake(
            "",
            "a disk of type vhostuser has a socket and no other source",
            "leave out the other source",
        )
    if disk.bus != "virtio" or disk.device != "disk":
        yield device.refusal(
            "bus", "a disk of type vhostuser has to be on virtio", "write the bus 'virtio'"
        )
    if disk.reconnect_timeout is not None and not disk.reconnect:
        yield device.mistake(
            "reconnect-timeout",
            "a time between attempts has no effect if it does not reconnect",
            f"add {AGAIN}, or leave out the time",
        )
