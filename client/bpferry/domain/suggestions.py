# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an unknown name may have meant: one that is spelled similarly, or that means the same."""

from collections.abc import Sequence
from typing import Final

from bpferry.domain.shape import Field

MOST: Final = 3

SHORT: Final = 7
"""Letters of a name in which one mistake is likely; two make another word of it."""

SAME: Final = tuple(
    frozenset(group.split())
    for group in (
        "cards interface nic nics card network networks net interfaces ethernet netdev",
        "disks disk drive drives hdd volume volumes storage cdrom cdroms cd iso floppy",
        "accelerator accel kvm enable-kvm hypervisor",
        "vcpus vcpu cpus smp cores processors",
        "memory ram mem",
        "qemu emulator binary qemu-binary qemu-path",
        "machine-type @machine machine",
        "command-line cmdline kernel-cmdline append kernel-args kernel-params kernel-parameters",
        "firmware loader bios uefi efi ovmf",
        "graphics display displays screen vnc spice",
        "videos video vga gpu",
        "host-devices hostdev hostdevs usb pci passthrough",
        "filesystems filesystem share shares mounts fs shared-folders",
        "qemu-arguments args qemu-args extra-args arguments",
        "file @file path image source src",
        "read-only readonly ro",
        "cache cache-mode",
        "io aio",
        "format fmt image-format",
        "bus if",
        "boot boot-order bootindex",
        "shareable share-rw",
        "mtu host-mtu",
        "queues mq multiqueue",
        "tag mount-tag",
        "access security-model accessmode",
        "folder directory dir path source src",
        "driver vhost",
        "memory-backing hugepages huge-pages",
        "mac mac-address macaddr hwaddr",
        "bridge br",
        "tap ifname dev",
        "port-forwards portForward hostfwd ports forward forwards",
        "password @passwd passwd pass",
        "uuid id",
        "balloon memballoon",
        "tpms tpm swtpm",
        "watchdogs watchdog",
        "name hostname",
    )
)
"""Names that mean the same: ours, libvirt's, QEMU's, and what else people write."""


VALUES: Final = {"host": "host-passthrough", "max": "maximum", "virtio-net-pci": "virtio"}
"""QEMU's words for values, and libvirt's."""

VAGUE: Final = ("name", "id", "value", "index")
"""Attributes that many of libvirt's elements have, so that they say nothing about what is meant."""


def find_near(name: str, known: Sequence[str]) -> list[str]:
    """Return those of *known* that *name* may have meant, the likeliest first; up to three."""
    plain = name.replace("_", "-").lower()
    plural = [one for one in known if one in (plain, f"{plain}s", plain.removesuffix("s"))]
    same = find_same(plain, known)
    both = [one for one in plural if one in same]
    return (both or same or plural or find_alike(name, known))[:MOST]


def find_same(name: str, known: Sequence[str]) -> list[str]:
    """Return those of *known* that mean the same as *name*; not *name* itself."""
    groups = (group for group in SAME if name in group)
    found = ([one for one in known if one in group and one != name] for group in groups)
    return next(filter(None, found), [])


def find_alike(name: str, known: Sequence[str]) -> list[str]:
    """Return those of *known* that *name* is a slip of the keyboard away from, as for values."""
    if VALUES.get(name) in known:
        return [VALUES[name]]
    away = {one: _mistakes(name, one) for one in known}
    least = min(away.values(), default=0)
    allowed = 0 if len(name) < MOST else 1 if len(name) <= SHORT else 2
    return [one for one in known if away[one] == least <= allowed][:MOST]


def find_bound(name: str, fields: Sequence[Field]) -> list[Field]:
    """Return those of *fields* that libvirt's own element or attribute *name* is bound to."""
    plain = _bare(name)
    return [bound for bound in fields if plain in (_bare(bound.at.path), _bare(bound.at.also))]


def find_bound_below(name: str, fields: Sequence[Field]) -> list[Field]:
    """Return those of *fields* that are bound to an attribute *name* or in an element *name*.

    Of several attributes, the nearest is meant.
    """
    plain = _bare(name)
    last = [bound for bound in fields if _bare(bound.at.path.rpartition("/@")[2]) == plain]
    depth = min((bound.at.path.count("/") for bound in last), default=0)
    nearest = [bound for bound in last if bound.at.path.count("/") == depth]
    inside = [bound for bound in fields if _bare(bound.at.path.partition("/")[0]) == plain]
    return inside if name in VAGUE else nearest or inside


def _bare(name: str) -> str:
    return name.removeprefix("@").replace("-", "").replace("_", "").lower()


def _mistakes(name: str, other: str) -> int:
    """Return how many letters are wrong, missing, too many or in the place of their neighbour.

    More than two are not counted: names that differ by so much are different words.
    """
    if abs(len(name) - len(other)) >= MOST:
        return MOST
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(name, 1):
        above, row, before = before, [i], row
        for j, wanted in enumerate(other, 1):
            least = min(before[j - 1] + (letter != wanted), before[j] + 1, row[j - 1] + 1)
            if i > 1 and j > 1 and (letter, name[i - 2]) == (other[j - 2], wanted):
                least = min(least, above[j - 2] + 1)
            row.append(least)
    return row[-1]
