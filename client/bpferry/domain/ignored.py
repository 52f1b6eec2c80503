# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is ignored in a libvirt document, with the reason for each.

Nothing else is ignored: what is neither here nor in the model is refused. Each entry is a pattern
of paths (``patterns``). What the model knows is ignored only under a condition, which is an
attribute of an element above it.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Final

from msgspec import Struct

from bpferry.domain.patterns import Patterns

IGNORED: Final[dict[str, str]] = {
    "/domain/@id": "the number that libvirt gave the VM in a past run",
    "/domain/on_lockfailure": "for libvirt's lock manager; session mode has none",
    "/domain/devices/lease": "for libvirt's lock manager; session mode has none",
    "/domain/metadata/*": "data of other programs, each in its own namespace",
    "/domain/idmap": "maps the users of containers; it means nothing to QEMU",
    "/domain/clock/@adjustment0": "the clock's offset when a past run began",
    "/domain/qemu:capabilities": "corrects libvirt's view of QEMU; bpferry asks QEMU itself",
    "/domain/resource/partition": "the control group of a system mode VM; session mode has none",
    "/domain/features/pae": "part of the CPU model; libvirt does not pass it to QEMU",
    "/domain/features/viridian": "for Xen; libvirt does not pass it to QEMU",
    "/domain/features/xen": "for Xen guests; libvirt does not pass it to QEMU",
    "/domain/features/privnet": "for containers; libvirt does not pass it to QEMU",
    "/domain/features/capabilities": "for containers; libvirt does not pass it to QEMU",
    "/domain/features/msrs": "for bhyve; libvirt does not pass it to QEMU",
    "/domain/features/hap": "KVM always uses it; libvirt does not pass it to QEMU",
    "/domain/seclabel": "session mode has no security driver that could set labels",
    "/domain/devices/*/alias": "an id from a past run; ids that users chose (ua-...) are kept",
    "/domain/devices/*/source/seclabel": "session mode has no security driver that sets labels",
    "/domain/devices/disk/**/source/seclabel": "session mode has no security driver that sets "
    "labels",
    "/domain/devices/rng/backend/source/seclabel": "session mode has no security driver that sets "
    "labels",
    "/domain/devices/hostdev/source/address/@multifunction": "about the device's address on the "
    "host; the guest's address has its own",
    "/domain/devices/disk/privateData": "libvirt's own notes while a VM runs",
    "/domain/devices/disk/**/privateData": "libvirt's own notes while a VM runs",
    "/domain/devices/disk[@rawio='no']/@rawio": "it is the default",
    "/domain/devices/disk[@sgio='filtered']/@sgio": "it is the default",
    "/domain/devices/memory/target/current": "how much of it the guest had in a past run",
    "/domain/devices/disk/**/@index": "numbers that libvirt gave the images in a past run",
    "/domain/devices/disk/@snapshot": "what libvirt's snapshot command does with the disk",
    "/domain/devices/disk/encryption/cipher": "only used to create an image",
    "/domain/devices/disk/encryption/ivgen": "only used to create an image",
    "/domain/devices/disk/**/encryption/cipher": "only used to create an image",
    "/domain/devices/disk/**/encryption/ivgen": "only used to create an image",
    "/domain/devices/disk/mirror": "a copy that was under way in a past run",
    "/domain/devices/disk/target/@tray": "the tray's state in a past run; QEMU starts with the "
    "medium inserted, as under libvirt",
    "/domain/devices/interface/source/@portid": "the id of a port in a past run",
    "/domain/devices/interface/source/@macTableManager": "how libvirt's network manages its bridge",
    "/domain/devices/interface/mac/@type": "for VMware; it means nothing to QEMU",
    "/domain/devices/interface/mac/@check": "for VMware; it means nothing to QEMU",
    "/domain/devices/interface/mac/@currentAddress": "the address that the guest had set in a "
    "past run",
    "/domain/devices/interface/guest": "the card's name inside a container; other guests choose "
    "their own",
    "/domain/devices/interface/backenddomain": "for Xen; it means nothing to QEMU",
    "/domain/devices/console/@tty": "the terminal of a past run; each run gets a new one",
    "/domain/devices/serial/@tty": "the terminal of a past run; each run gets a new one",
    "/domain/devices/parallel/@tty": "the terminal of a past run; each run gets a new one",
    "/domain/devices/channel/target/@state": "whether an agent was connected in a past run",
    "/domain/features/hyperv[@mode='passthrough']/*": "passthrough turns on everything the host "
    "supports; libvirt ignores the single features, too",
    "/domain/devices/interface[@type!='ethernet']/target/@dev": "the helper names the taps it "
    "makes; libvirt's session mode ignores the name, too",
    "/domain/devices/tpm/backend/profile/@name": "noted by libvirt after a past run",
}
"""Paths, and why nothing is lost. Everything below a path is ignored with it."""


CONDITION: Final = re.compile(
    r"(?P<path>[^\[]+)\[@(?P<name>\w+)(?P<sign>!?=)'(?P<word>\w+)'\]/(?P<below>.+)"
)
"""An entry with a condition, such as ``/a/b[@c='d']/e``."""


class Condition(Struct, frozen=True):
    """When something below an element is ignored though the model knows it."""

    name: str
    """Of an attribute of the element."""
    word: str
    negated: bool
    below: str
    """The path that is ignored."""


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
    """Return the paths that are ignored in the element *path* with these *attributes*.

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
"""The elements of which only a part is ignored."""


def is_ignored(path: str) -> bool:
    """Say whether *path*, an XPath without numbers, may be ignored."""
    return PATTERNS.find_around(path) is not None


def is_partly_ignored(path: str) -> bool:
    """Say whether a child or attribute of *path* may be ignored."""
    return path in PARTS


def reason_of(path: str) -> str:
    """Return why *path* is ignored; empty if it is not, whatever the conditions of entries."""
    found = PATTERNS.find_around(path)
    if found is not None:
        return IGNORED[found]
    around = f"{path.rpartition('/')[0]}/*"
    return next((why for entry, why in IGNORED.items() if _below(entry) in (path, around)), "")


def _below(entry: str) -> str:
    """Return the path that *entry* is about under its condition."""
    parts = CONDITION.fullmatch(entry)
    return f"{parts['path']}/{parts['below']}" if parts else ""
