# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is said of more than one part of a document."""

from typing import Final

Reason = tuple[str, str]
"""Why, and what to do."""

REMOVE: Final = "remove it"

XEN: Final = ("it is for Xen, and means nothing to QEMU", REMOVE)
CONTAINERS: Final = ("it is for containers, and means nothing to QEMU", REMOVE)
OTHERS: Final = ("it is for other hypervisors, and means nothing to QEMU", REMOVE)
FREEBSD: Final = ("it is for FreeBSD", REMOVE)
IBM_Z: Final = ("it is for machines of IBM Z, whose devices bpferry cannot place", REMOVE)
POWER: Final = ("it is for machines of IBM Power, whose devices bpferry cannot place", REMOVE)

KEPT_BY_LIBVIRT: Final = "libvirt keeps the key or password (<secret>), and bpferry keeps none"


def for_words(path: str, attribute: str, reason: Reason, *words: str) -> dict[str, Reason]:
    """Return the entries of some *words* of one attribute."""
    return {f"{path}[@{attribute}='{word}']": reason for word in words}
