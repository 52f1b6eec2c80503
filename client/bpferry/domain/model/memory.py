# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory: how much there can be, where it comes from, and modules of it."""

from typing import Annotated, Literal

import msgspec

from bpferry.domain.binding import At, Form, Placed, Table
from bpferry.domain.model.base import Uuid, VirtioDevice
from bpferry.domain.model.numa import Node, NumberSet

UNLIMITED = 9007199254740991 * 1024
"""A limit of this value or more means no limit (docs/formatdomain, 'Memory Tuning'); 0 too."""


class MaxMemory(Table, frozen=True, kw_only=True):
    """How much memory there can be when modules are added."""

    size: Placed[int, At(".", Form.SIZE)]
    """Bytes."""
    slots: Placed[Annotated[int, msgspec.Meta(ge=0, le=256)] | None, At("@slots")] = None
    """ACPI_MAX_RAM_SLOTS of QEMU is 256."""


class HugePage(Table, frozen=True, kw_only=True):
    """Large pages of one size."""

    size: Placed[int, At("@size", Form.SIZE)]
    """Bytes."""
    nodes: Placed[NumberSet | None, At("@nodeset")] = None
    """The nodes of the guest whose memory they are for; by default all."""


class HugePages(Table, frozen=True, kw_only=True):
    """Large pages of the host's default size, or of the sizes in the list."""

    pages: Placed[tuple[HugePage, ...], At("page")] = ()


class MemoryBacking(Table, frozen=True, kw_only=True):
    """Where the guest's memory comes from."""

    huge_pages: Placed[HugePages | None, At("hugepages")] = None
    source: Placed[Literal["anonymous", "file", "memfd", None], At("source/@type")] = None
    access: Placed[Literal["shared", "private", None], At("access/@mode")] = None
    allocation: Placed[Literal["immediate", "ondemand", None], At("allocation/@mode")] = None
    allocation_threads: Placed[
        Annotated[int, msgspec.Meta(ge=1, le=4096)] | None, At("allocation/@threads")
    ] = None
    discard: Placed[bool, At("discard", Form.PRESENT)] = False
    locked: Placed[bool, At("locked", Form.PRESENT)] = False
    no_same_page_merging: Placed[bool, At("nosharepages", Form.PRESENT)] = False


class MemoryLimits(Table, frozen=True, kw_only=True):
    """How much of the host's memory QEMU may use, in bytes."""

    hard: Placed[int | None, At("hard_limit", Form.SIZE)] = None
    """If it needs more, the kernel kills it."""
    soft: Placed[int | None, At("soft_limit", Form.SIZE)] = None
    """If it uses more, the kernel takes memory from it and slows it down."""
    swap: Placed[int | None, At("swap_hard_limit", Form.SIZE)] = None
    """Of memory and swap together."""


class MemoryDevice(VirtioDevice, frozen=True, kw_only=True):
    """A module of memory."""

    model: Placed[Literal["dimm", "nvdimm", "virtio-mem", "virtio-pmem"], At("@model")]
    access: Placed[Literal["shared", "private", None], At("@access")] = None
    discard: Placed[bool | None, At("@discard", Form.YES_NO)] = None
    uuid: Placed[Uuid | None, At("uuid")] = None
    size: Placed[int, At("target/size", Form.SIZE)]
    """Bytes."""
    node: Placed[Node | None, At("target/node")] = None
    label_size: Placed[int | None, At("target/label/size", Form.SIZE)] = None
    read_only: Placed[bool, At("target/readonly", Form.PRESENT)] = False
    requested: Placed[int | None, At("target/requested", Form.SIZE)] = None
    """Bytes that virtio-mem gives to the guest at first."""
    block: Placed[int | None, At("target/block", Form.SIZE)] = None
    """Bytes that virtio-mem gives and takes at a time."""
    guest_address: Placed[int | None, At("target/address/@base")] = None
    dynamic_slots: Placed[bool | None, At("target/@dynamicMemslots", Form.YES_NO)] = None
    file: Placed[str | None, At("source/path", Form.FILE)] = None
    page_size: Placed[int | None, At("source/pagesize", Form.SIZE)] = None
    host_nodes: Placed[NumberSet | None, At("source/nodemask")] = None
    alignment: Placed[int | None, At("source/alignsize", Form.SIZE)] = None
    persistent: Placed[bool, At("source/pmem", Form.PRESENT)] = False
