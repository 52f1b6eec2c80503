# SPDX-License-Identifier: LGPL-2.1-or-later
"""The defaults of a description that names no QEMU, no machine type, no address."""

import os
from typing import TYPE_CHECKING, Final

from bpferry.domain.architectures import is_pc
from bpferry.qemu.capabilities import Capabilities

if TYPE_CHECKING:
    # The whole model takes a while to import, and a plan for a card does not need it.
    from bpferry.domain.model.cards import Card
    from bpferry.domain.model.machine import Machine

GPU_PROGRAM: Final = "vhost-user-gpu"
"""What QEMU calls its own; its package need not have a descriptor of it."""


def qemu_of(machine: "Machine") -> str:
    """Return the path of the QEMU for *machine*."""
    return machine.qemu or default_qemu(machine.arch)


def chosen_qemu(named: str | None) -> str:
    """Return the path of the QEMU that a command line names, or of the default one."""
    return os.path.abspath(named) if named else default_qemu()  # noqa: PTH100 - links stay


def default_qemu(arch: str | None = None) -> str:
    """Return the path of the QEMU for guests of *arch*, or of this machine's own kind."""
    wanted = arch or os.uname().machine
    return f"/usr/bin/qemu-system-{'x86_64' if is_pc(wanted) else wanted}"


def machine_type_of(machine: "Machine", arch: str) -> str:
    """Return the machine type of *machine* for a guest of *arch*.

    The defaults of both forms, ``q35`` and ``default``, mean ``virt`` if the guest is not a PC.
    """
    if machine.machine_type == "default":
        return "pc" if is_pc(arch) else "virt"
    if machine.machine_type == "q35" and not is_pc(arch):
        return "virt"
    return machine.machine_type


def card_model_of(card: "Card", capabilities: Capabilities) -> str:
    """Return the model of *card*; if it names none, the one that libvirt chooses.

    On x86 that is the first of three that this QEMU has, the oldest one first
    (qemuDomainDefaultNetModel, src/qemu/qemu_postparse.c, libvirt 11.3).
    """
    if card.model != "default":
        return card.model
    if card.type == "vhostuser" or not is_pc(capabilities.arch):
        return "virtio"
    return next(
        (model for model in ("rtl8139", "e1000") if capabilities.has_device(model)), "virtio"
    )


def is_virtio_card(card: "Card", capabilities: Capabilities) -> bool:
    """Say whether *card* is a virtio card on this QEMU."""
    return card_model_of(card, capabilities).startswith("virtio")
