# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a description means that names no QEMU, no machine type, no address."""

import hashlib
import platform
import uuid
from typing import Final

from bpferry.domain.model.cards import Card
from bpferry.domain.model.machine import Machine
from bpferry.qemu.capabilities import Capabilities

X86: Final = ("x86_64", "i686")

UUID_NAMESPACE: Final = uuid.UUID("6b1c2f0e-7c55-5a0e-9a9e-3c9d1f1b7a10")
"""Under which the UUIDs of VMs that name none are made (RFC 9562, version 5)."""


def qemu_of(machine: Machine) -> str:
    """Return the path of the QEMU for *machine*."""
    return machine.qemu or default_qemu(machine.arch)


def default_qemu(arch: str | None = None) -> str:
    """Return the path of the QEMU for guests of *arch*, or of this machine's own kind."""
    wanted = arch or platform.machine()
    return f"/usr/bin/qemu-system-{'x86_64' if wanted in X86 else wanted}"


def machine_type_of(machine: Machine, arch: str) -> str:
    """Return the machine type of *machine* for a guest of *arch*.

    The defaults of both forms, ``q35`` and ``default``, mean ``virt`` where the guest is no PC.
    """
    if machine.machine_type == "default":
        return "pc" if arch in X86 else "virt"
    if machine.machine_type == "q35" and arch not in X86:
        return "virt"
    return machine.machine_type


def card_model_of(card: Card, capabilities: Capabilities) -> str:
    """Return the model of *card*; where none is named, the one that libvirt chooses.

    On x86 that is the first of three that this QEMU has, the oldest one first
    (qemuDomainDefaultNetModel, src/qemu/qemu_postparse.c, libvirt 11.3).
    """
    if card.model != "default":
        return card.model
    if card.type == "vhostuser" or capabilities.arch not in X86:
        return "virtio"
    return next(
        (model for model in ("rtl8139", "e1000") if capabilities.has_device(model)), "virtio"
    )


def is_virtio_card(card: Card, capabilities: Capabilities) -> bool:
    """Say whether *card* is a virtio card on this QEMU."""
    return card_model_of(card, capabilities).startswith("virtio")


def card_mac_of(card: Card, vm_name: str, index: int) -> str:
    """Return the address of *card*, which is card *index*; zeros mean none, as in libvirt."""
    named = card.mac is not None and card.mac != "00:00:00:00:00:00"
    return card.mac.lower() if card.mac and named else derive_mac(vm_name, index)


def derive_mac(vm_name: str, index: int) -> str:
    """Return the address of card *index* of a VM that names none.

    The same name and place give the same address everywhere. It is one for a single station (bit 0
    of the first byte is clear) and locally administered (bit 1 is set), IEEE 802 clause 8.
    """
    digest = hashlib.sha256(f"{vm_name}\0{index}".encode()).digest()
    octets = bytes([digest[0] & 0xFC | 0x02]) + digest[1:6]
    return octets.hex(":")


def derive_uuid(vm_name: str) -> str:
    """Return the UUID of a VM that names none; the same name gives the same one everywhere."""
    return str(uuid.uuid5(UUID_NAMESPACE, vm_name))
