# SPDX-License-Identifier: LGPL-2.1-or-later
"""The smaller devices: random numbers, watchdog, panic, vsock, IOMMU and others."""

from typing import Annotated, Literal

import msgspec

from bpferry.domain.binding import At, Form, Placed, Table
from bpferry.domain.model.base import Device, VirtioDevice

VirtioModel = Literal["virtio", "virtio-transitional", "virtio-non-transitional"]

Count = Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]


class Watchdog(Device, frozen=True, kw_only=True):
    """A timer that acts when the guest does not reset it in time."""

    model: Placed[Literal["i6300esb", "ib700", "itco"], At("@model", always=True)] = "i6300esb"
    action: Placed[
        Literal["reset", "shutdown", "poweroff", "pause", "none", "inject-nmi"], At("@action")
    ] = "reset"


class Panic(Device, frozen=True, kw_only=True):
    """What tells the host that the guest's kernel has panicked."""

    model: Placed[Literal["isa", "pvpanic", "hyperv", None], At("@model")] = None
    """By default, isa on x86 and pvpanic elsewhere."""


class Vsock(VirtioDevice, frozen=True, kw_only=True):
    """A socket family between guest and host."""

    model: Placed[VirtioModel, At("@model")] = "virtio"
    cid: Placed[Annotated[int, msgspec.Meta(ge=3, le=2**32 - 2)] | None, At("cid/@address")] = None
    """The guest's address. No two VMs of a host have the same one; 0 to 2 are reserved."""
    auto: Placed[bool | None, At("cid/@auto", Form.YES_NO)] = None


class SharedMemoryServer(Table, frozen=True, kw_only=True):
    """An ivshmem-server, which hands out the memory and passes on interrupts."""

    path: Placed[str | None, At("@path", Form.PLACE)] = None
    """Its socket."""


class Interrupts(Table, frozen=True, kw_only=True):
    """How VMs that share memory wake each other."""

    vectors: Placed[Annotated[int, msgspec.Meta(ge=1, le=2048)] | None, At("@vectors")] = None
    """MSI-X has 2048 at most."""
    ioeventfd: Placed[bool | None, At("@ioeventfd", Form.ON_OFF)] = None


class SharedMemory(Device, frozen=True, kw_only=True):
    """Memory that several VMs see."""

    name: Placed[str, At("@name")]
    """The name of a file in /dev/shm."""
    role: Placed[Literal["master", "peer", None], At("@role")] = None
    model: Placed[Literal["ivshmem-plain", "ivshmem-doorbell"], At("model/@type", always=True)] = (
        "ivshmem-plain"
    )
    size: Placed[int | None, At("size", Form.SIZE, unit="b")] = None
    """Bytes: a power of two."""
    server: Placed[SharedMemoryServer | None, At("server")] = None
    interrupts: Placed[Interrupts | None, At("msi")] = None


class Iommu(Device, frozen=True, kw_only=True):
    """An IOMMU, which translates the addresses of devices."""

    model: Placed[Literal["intel", "virtio"], At("@model")]
    interrupt_remapping: Placed[bool | None, At("driver/@intremap", Form.ON_OFF)] = None
    caching_mode: Placed[bool | None, At("driver/@caching_mode", Form.ON_OFF)] = None
    extended_interrupts: Placed[bool | None, At("driver/@eim", Form.ON_OFF)] = None
    """Interrupts to more than 255 processors."""
    device_iotlb: Placed[bool | None, At("driver/@iotlb", Form.ON_OFF)] = None
    address_bits: Placed[Literal[39, 48, None], At("driver/@aw_bits")] = None
    """What QEMU's unit can do (hw/i386/intel_iommu.c)."""
    dma_translation: Placed[bool | None, At("driver/@dma_translation", Form.ON_OFF)] = None


class Crypto(VirtioDevice, frozen=True, kw_only=True):
    """A device that encrypts for the guest."""

    model: Placed[Literal["virtio"], At("@model", always=True)] = "virtio"
    type: Placed[Literal["qemu"], At("@type", always=True)] = "qemu"
    backend: Placed[Literal["builtin"], At("backend/@model", always=True)] = "builtin"
    queues: Placed[Annotated[int, msgspec.Meta(ge=1, le=64)] | None, At("backend/@queues")] = None


class Pstore(Device, frozen=True, kw_only=True):
    """Memory that keeps the guest's last words across a crash (ACPI ERST)."""

    backend: Placed[Literal["acpi-erst"], At("@backend", always=True)] = "acpi-erst"
    file: Placed[str | None, At("path", Form.PLACE)] = None
    """By default one of the VM's own; it is made if it does not exist."""
    size: Placed[int, At("size", Form.SIZE)]
    """Bytes."""
