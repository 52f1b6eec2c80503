# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reasons that several parts of a document share."""

from typing import Final

Reason = tuple[str, str]
"""Why, and what to do."""

REMOVE: Final = "remove it"

XEN: Final = ("it is for Xen, and means nothing to QEMU", REMOVE)
CONTAINERS: Final = ("it is for containers, and means nothing to QEMU", REMOVE)
OTHERS: Final = ("it is for other hypervisors, and means nothing to QEMU", REMOVE)
FREEBSD: Final = ("it is for FreeBSD", REMOVE)
IBM_Z: Final = ("it is for IBM Z machines, which bpferry does not support", REMOVE)
POWER: Final = ("it is for IBM Power machines, which bpferry does not support", REMOVE)


def for_words(path: str, attribute: str, reason: Reason, *words: str) -> dict[str, Reason]:
    """Return the entries of some *words* of one attribute."""
    return {f"{path}[@{attribute}='{word}']": reason for word in words}
