# SPDX-License-Identifier: LGPL-2.1-or-later
"""A small VM as a frozen value: memory, processors, a kernel, disks, cards.

The values are checked where they are read (``toml``); here they are only carried. Nothing in them
depends on the machine that they will run on, so that a description means the same everywhere.
"""

import hashlib
import platform
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MAX_QUEUES: Final = 256
"""Queues of one tap in the kernel: MAX_TAP_QUEUES, drivers/net/tun.c."""

MAX_CARDS: Final = 16
"""Cards of one VM. The root bus of q35 has 31 free places, and disks want some."""

MAX_DISKS: Final = 8
"""Disks of one VM, for the same reason."""

MAX_VCPUS: Final = 255
"""Processors of one VM: more need an interrupt remapping unit on x86."""

MIN_MEMORY_MIB: Final = 16
MAX_MEMORY_MIB: Final = 4 * 1024 * 1024
"""Four tebibytes, in MiB; beyond it x86 needs other addressing options."""

MAX_COMMAND_LINE_BYTES: Final = 2047
"""COMMAND_LINE_SIZE of x86 and arm64 without its final zero byte (asm/setup.h)."""


class Accelerator(StrEnum):
    """Who executes the guest's instructions."""

    AUTO = "auto"
    """KVM if a trial shows that it works, else TCG."""
    KVM = "kvm"
    TCG = "tcg"


class DiskFormat(StrEnum):
    """How a disk image is written."""

    RAW = "raw"
    QCOW2 = "qcow2"


@dataclass(frozen=True, slots=True)
class Disk:
    """One disk image, seen by the guest as a virtio block device."""

    path: str
    format: DiskFormat
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Card:
    """One virtio network card on a tap that exists already."""

    id: str
    tap: str
    mac: str
    queues: int = 1
    rss: bool = False
    require_ebpf: bool = False


@dataclass(frozen=True, slots=True)
class Machine:
    """One VM."""

    name: str
    memory_mib: int
    vcpus: int
    qemu: str
    machine_type: str
    accelerator: Accelerator = Accelerator.AUTO
    kernel: str | None = None
    initrd: str | None = None
    command_line: str = ""
    serial: bool = True
    disks: tuple[Disk, ...] = ()
    cards: tuple[Card, ...] = ()


def default_qemu() -> str:
    """Return the path of the QEMU for guests of this machine's own kind."""
    return f"/usr/bin/qemu-system-{platform.machine()}"


def default_machine_type() -> str:
    """Return the machine type that fits this machine's own kind of guest."""
    return "q35" if platform.machine() == "x86_64" else "virt"


def derive_mac(vm_name: str, index: int) -> str:
    """Return the address of card *index* of a VM that names none.

    The same name and place give the same address everywhere. It is one for a single station (bit 0
    of the first byte is clear) and locally administered (bit 1 is set), IEEE 802 clause 8.
    """
    digest = hashlib.sha256(f"{vm_name}\0{index}".encode()).digest()
    octets = bytes([digest[0] & 0xFC | 0x02]) + digest[1:6]
    return octets.hex(":")
