# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is passed over in a libvirt document, with the reason for each.

Nothing else is: what is neither here nor in the model is refused. Each entry is a pattern of paths
(``patterns``). What the model knows is passed over only under a condition, which is an attribute of
an element above it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from bpferry.domain.patterns import Patterns

IGNORED: Final[dict[str, str]] = {
    "/domain/@id": "the number of a VM that ran under libvirt; it says nothing about the VM",
    "/domain/description": "words for people",
    "/domain/on_lockfailure": "what libvirt's lock manager does when it loses a lock; the one that "
    "session mode has keeps none",
    "/domain/devices/lease": "what the lock manager would hold; the one of session mode holds none",
    "/domain/metadata/*": "data of other programs, each in a namespace of its own",
    "/domain/idmap": "libvirt maps users in containers only; QEMU is told nothing of it",
    "/domain/clock/@adjustment0": "how far the clock was off when a past run began",
    "/domain/qemu:capabilities": "corrects what libvirt believes of QEMU; bpferry asks QEMU",
    "/domain/resource/partition": "the control group of a VM in system mode; session mode has none",
    "/domain/features/pae": "processors have it by their model; QEMU is told nothing of it",
    "/domain/features/viridian": "Xen's word for what Windows is told; QEMU is told nothing of it",
    "/domain/features/xen": "what guests of Xen are told; QEMU is told nothing of it",
    "/domain/features/privnet": "a network of a container's own; QEMU is told nothing of it",
    "/domain/features/capabilities": "what a container may do; QEMU is told nothing of it",
    "/domain/features/msrs": "what FreeBSD's bhyve does; QEMU is told nothing of it",
    "/domain/features/hap": "QEMU is told nothing of it; KVM always uses it",
    "/domain/seclabel": "session mode has no security driver that could set a label",
    "/domain/devices/*/alias": "names of a run under libvirt; names that users chose are read",
    "/domain/devices/*/source/seclabel": "as above, for one file or socket",
    "/domain/devices/disk/**/source/seclabel": "as above, for an image below another",
    "/domain/devices/rng/backend/source/seclabel": "as above, for a socket",
    "/domain/devices/hostdev/source/address/@multifunction": "of the host's own place; that of the "
    "guest's is read",
    "/domain/devices/disk/privateData": "what libvirt notes for itself while a VM runs",
    "/domain/devices/disk/**/privateData": "as above, for one image",
    "/domain/devices/disk[@rawio='no']/@rawio": "what every disk is like that does not say 'yes'",
    "/domain/devices/disk[@sgio='filtered']/@sgio": "what every disk is like that says nothing",
    "/domain/devices/memory/target/current": "what the guest had of it in a past run",
    "/domain/devices/disk/**/@index": "numbers that libvirt gave to images in a past run",
    "/domain/devices/disk/@snapshot": "what libvirt's own command for snapshots does with a disk",
    "/domain/devices/disk/encryption/cipher": "how an image is encrypted when it is made",
    "/domain/devices/disk/encryption/ivgen": "as above, for its cipher",
    "/domain/devices/disk/**/encryption/cipher": "as above, for an image below another",
    "/domain/devices/disk/**/encryption/ivgen": "as above, for its cipher",
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
    "/domain/devices/serial/@tty": "as above, of a port",
    "/domain/devices/parallel/@tty": "as above, of a port",
    "/domain/devices/channel/target/@state": "whether an agent was there in a past run",
    "/domain/features/hyperv[@mode='passthrough']/*": "QEMU turns on all that the host can do, and "
    "libvirt reads none of the single features then",
    "/domain/devices/interface[@type!='ethernet']/target/@dev": "the helper names a tap that it "
    "makes, as libvirt's session mode has it done; the other types have none",
    "/domain/devices/tpm/backend/profile/@name": "what libvirt noted after a past run",
}
"""Paths, and why nothing is lost. What stands below a path is passed over with it."""


CONDITION: Final = re.compile(
    r"(?P<path>[^\[]+)\[@(?P<name>\w+)(?P<sign>!?=)'(?P<word>\w+)'\]/(?P<below>.+)"
)
"""An entry with a condition, such as ``/a/b[@c='d']/e``."""


@dataclass(frozen=True, slots=True)
class Condition:
    """When something below an element is passed over though the model knows it."""

    name: str
    """Of an attribute of the element."""
    word: str
    negated: bool
    below: str
    """The path that is passed over."""


@cache
def _conditions() -> dict[str, tuple[Condition, ...]]:
    """Return the entries with a condition, by the element that the condition is about."""
    found: dict[str, tuple[Condition, ...]] = {}
    for entry in IGNORED:
        parts = CONDITION.fullmatch(entry)
        if parts:
            path = parts["path"]
            below = f"{path}/{parts['below']}"
            condition = Condition(parts["name"], parts["word"], parts["sign"] == "!=", below)
            found[path] = (*found.get(path, ()), condition)
    return found


def passed_over_in(path: str, attributes: Mapping[str, str]) -> frozenset[str]:
    """Return the paths that are passed over in the element *path* with these *attributes*.

    One that ends in ``/*`` means each element in that place.
    """
    return frozenset(
        condition.below
        for condition in _conditions().get(path, ())
        if (attributes.get(condition.name) == condition.word) is not condition.negated
    )


PATTERNS: Final = Patterns(path for path in IGNORED if "[" not in path)

PARTS: Final = frozenset(
    path.rpartition("/")[0] for path in IGNORED if "*" not in path and "[" not in path
)
"""The elements of which only a part is passed over."""


def is_ignored(path: str) -> bool:
    """Say whether what stands at *path*, an XPath without numbers, may be passed over."""
    return PATTERNS.find_around(path) is not None


def is_partly_ignored(path: str) -> bool:
    """Say whether something right below *path* may be passed over."""
    return path in PARTS
