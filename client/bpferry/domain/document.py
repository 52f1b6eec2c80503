# SPDX-License-Identifier: LGPL-2.1-or-later
"""The keys of the native description, their types and their bounds.

    name = "web"                    # needed; letters, digits, '.', '_', '-'
    memory-mib = 1024               # needed
    vcpus = 4                       # 1
    kernel = "vmlinuz"              # paths are relative to the file's own folder
    initrd = "initrd.img"
    command-line = "console=ttyS0"
    serial = true                   # the guest's serial console is shown; true
    qemu = "/usr/bin/qemu-system-x86_64"
    machine = "q35"
    accelerator = "auto"            # or "kvm", "tcg"

    [[disks]]
    path = "disk.qcow2"
    format = "qcow2"                # or "raw"
    read-only = false

    [[cards]]
    tap = "tap0"                    # a multi-queue tap that exists and is yours
    queues = 4                      # 1
    rss = true                      # true where there is more than one queue
    require-ebpf = false            # start only if the host's kernel steers
    mac = "52:54:00:12:34:56"       # made from the VM's name and the card's place
    name = "net0"

Keys are written with hyphens, as in the policy file; the fields below have their Python names.
What types cannot say is checked in ``checks``.
"""

from typing import Annotated, Literal

import msgspec

from bpferry.domain import model


class Table(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True, rename="kebab"):
    """What all tables of the file have in common: no key that is not known."""


class DiskTable(Table, frozen=True, kw_only=True):
    """One entry of ``[[disks]]``."""

    path: str
    format: Literal["raw", "qcow2"]
    read_only: bool = False


class CardTable(Table, frozen=True, kw_only=True):
    """One entry of ``[[cards]]``."""

    tap: str
    queues: Annotated[int, msgspec.Meta(ge=1, le=model.MAX_QUEUES)] = 1
    rss: bool | None = None
    require_ebpf: bool = False
    mac: str | None = None
    name: str | None = None


class Document(Table, frozen=True, kw_only=True):
    """The whole file."""

    name: str
    memory_mib: Annotated[int, msgspec.Meta(ge=model.MIN_MEMORY_MIB, le=model.MAX_MEMORY_MIB)]
    vcpus: Annotated[int, msgspec.Meta(ge=1, le=model.MAX_VCPUS)] = 1
    kernel: str | None = None
    initrd: str | None = None
    command_line: str = ""
    serial: bool = True
    qemu: str | None = None
    machine: str | None = None
    accelerator: Literal["auto", "kvm", "tcg"] = "auto"
    disks: Annotated[list[DiskTable], msgspec.Meta(max_length=model.MAX_DISKS)] = []
    cards: Annotated[list[CardTable], msgspec.Meta(max_length=model.MAX_CARDS)] = []
