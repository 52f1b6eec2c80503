# SPDX-License-Identifier: LGPL-2.1-or-later
"""The names of architectures: documents use libvirt's, QEMU has its own."""

from typing import Final

PCS: Final = ("x86_64", "i686", "i386")
"""PCs. Documents have x86_64 and i686, QEMU calls itself x86_64 or i386."""

QEMU_NAMES: Final = {"i686": "i386"}
"""Architectures that have another name in QEMU than in documents."""


def is_pc(arch: str) -> bool:
    """Say whether *arch*, by either name, is a PC."""
    return arch in PCS


def document_name(arch: str) -> str:
    """Return what documents call *arch*, by QEMU's name."""
    return next((ours for ours, theirs in QEMU_NAMES.items() if theirs == arch), arch)


def qemu_name(arch: str) -> str:
    """Return what QEMU calls *arch*."""
    return QEMU_NAMES.get(arch, arch)
