# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is passed over in a libvirt document, with the reason for each.

Nothing else is: what is neither here nor in the model is refused. Each entry is a pattern of paths
without the places in brackets; ``*`` stands for one element, ``**`` for one or more.
"""

import re
from functools import cache
from typing import Final

IGNORED: Final[dict[str, str]] = {
    "/domain/@id": "the number of a VM that ran under libvirt; it says nothing about the VM",
    "/domain/description": "words for people",
    "/domain/metadata/*": "data of other programs, each in a namespace of its own",
    "/domain/idmap": "libvirt maps users in containers only; QEMU is told nothing of it",
    "/domain/clock/@adjustment0": "how far the clock was off when a past run began",
    "/domain/resource/partition": "the control group of a VM in system mode; session mode has none",
    "/domain/features/pae": "processors have it by their model; QEMU is told nothing of it",
    "/domain/features/hap": "QEMU is told nothing of it; KVM always uses it",
    "/domain/seclabel": "session mode has no security driver that could set a label",
    "/domain/devices/*/alias": "names of a run under libvirt; names that users chose are read",
    "/domain/devices/*/source/seclabel": "as above, for one file or socket",
    "/domain/devices/disk/**/source/seclabel": "as above, for an image below another",
    "/domain/devices/disk/**/@index": "numbers that libvirt gave to images in a past run",
    "/domain/devices/disk/@snapshot": "what libvirt's own command for snapshots does with a disk",
    "/domain/devices/disk/mirror": "a copy that was made in a past run; a start makes none",
    "/domain/devices/disk/target/@tray": "where the tray was in a past run; QEMU starts with the "
    "medium in the drive, and so does libvirt",
    "/domain/devices/interface/source/@portid": "the number of a port of a past run",
    "/domain/devices/interface/source/@macTableManager": "how libvirt ran its network's bridge",
    "/domain/devices/interface/mac/@type": "VMware's, as is the next; QEMU is told neither",
    "/domain/devices/interface/mac/@check": "VMware's, as the type is",
    "/domain/devices/interface/mac/@currentAddress": "what the guest had set in a past run",
    "/domain/devices/interface/guest": "a name inside of a container; QEMU's guests choose theirs",
    "/domain/devices/interface/backenddomain": "a domain of Xen; QEMU has none",
    "/domain/devices/console/@tty": "the terminal of a past run; each run has a new one",
    "/domain/devices/channel/target/@state": "whether an agent was there in a past run",
    "/domain/devices/tpm/backend/profile/@name": "what libvirt noted after a past run",
}
"""Paths, and why nothing is lost. What stands below a path is passed over with it."""


@cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(_expression(path) + "(?:/.*)?") for path in IGNORED)


def _expression(path: str) -> str:
    return re.escape(path).replace(r"\*\*", ".+").replace(r"\*", "[^/]+")


def is_ignored(xpath: str) -> bool:
    """Say whether what stands at *xpath* may be passed over."""
    plain = re.sub(r"\[\d+\]", "", xpath)
    return any(pattern.fullmatch(plain) for pattern in _patterns())
