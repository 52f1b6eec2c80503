# SPDX-License-Identifier: LGPL-2.1-or-later
"""Virtio devices that also speak the protocol from before version 1.0."""

from bpferry.commandline.parts import Slot


def slot_of(model: str | None) -> Slot:
    """Return the kind of place that a virtio device of *model* needs.

    The old protocol needs I/O ports, and QEMU offers it on conventional PCI only.
    """
    return Slot.CONVENTIONAL if model == "virtio-transitional" else Slot.EXPRESS
