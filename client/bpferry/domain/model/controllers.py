# SPDX-License-Identifier: LGPL-2.1-or-later
"""Controllers: what other devices are attached to."""

from typing import Annotated, Literal

import msgspec

from bpferry.domain.binding import At, Form, Placed, Table
from bpferry.domain.model.base import VirtioDevice

Count = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Word = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]

Threads = Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]
"""The number of an I/O thread."""


class QueueThread(Table, frozen=True, kw_only=True):
    """An I/O thread, and the queues that it serves; if none are named, threads take turns."""

    id: Placed[Threads, At("@id")]
    queues: Placed[tuple[Count, ...], At("queue/@id")] = ()


class Controller(VirtioDevice, frozen=True, kw_only=True):
    """One controller of a bus, found by devices through its type and index."""

    type: Placed[
        Literal["ide", "fdc", "scsi", "sata", "virtio-serial", "usb", "ccid", "pci"], At("@type")
    ]
    index: Placed[Byte | None, At("@index")] = None
    model: Placed[str | None, At("@model")] = None

    ports: Placed[Count | None, At("@ports")] = None
    """For USB and virtio-serial."""
    vectors: Placed[Count | None, At("@vectors")] = None
    """Interrupts, for virtio-serial."""
    first_port: Placed[Count | None, At("master/@startport")] = None
    """The first port of the USB 2 controller that this companion serves."""

    queues: Placed[Count | None, At("driver/@queues")] = None
    commands_per_lun: Placed[Word | None, At("driver/@cmd_per_lun")] = None
    max_sectors: Placed[Word | None, At("driver/@max_sectors")] = None
    ioeventfd: Placed[bool | None, At("driver/@ioeventfd", Form.ON_OFF)] = None
    iothread: Placed[Threads | None, At("driver/@iothread")] = None
    iothreads: Placed[tuple[QueueThread, ...], At("driver/iothreads/iothread")] = ()

    implementation: Placed[str | None, At("model/@name")] = None
    """QEMU's device behind a PCI controller."""
    chassis_number: Placed[Byte | None, At("target/@chassisNr")] = None
    """For a bridge of conventional PCI."""
    chassis: Placed[Byte | None, At("target/@chassis")] = None
    port: Placed[Byte | None, At("target/@port")] = None
    bus_number: Placed[Byte | None, At("target/@busNr")] = None
    """Where the numbers of an expander's buses begin."""
    numa_node: Placed[Count | None, At("target/node")] = None
    hotplug: Placed[bool | None, At("target/@hotplug", Form.ON_OFF)] = None
    reserved_memory: Placed[Word | None, At("target/@memReserve")] = None
    """KiB of addresses that a bridge keeps free for devices plugged in later."""
    hole: Placed[int | None, At("pcihole64", Form.SIZE)] = None
    """Bytes of addresses above 4 GiB for PCI devices, for a root."""
