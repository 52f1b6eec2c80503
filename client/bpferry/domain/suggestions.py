# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an unknown name may have meant: one that is spelled similarly, or that means the same."""

import difflib
from collections.abc import Sequence
from typing import Final

ALIKE: Final = 0.65
"""How near two names have to be (difflib's ratio): 'tpye' is as near to 'type' as 0.75, and 'kmv'
to 'kvm' as 0.67."""

NEXT: Final = 0.1
"""How much less alike than the likeliest another may be."""

MOST: Final = 3

SAME: Final = tuple(
    frozenset(group.split())
    for group in (
        "cards interface nic nics card network networks net interfaces ethernet netdev",
        "disks disk drive drives hdd volume volumes storage",
        "vcpus vcpu cpus smp cores processors",
        "memory ram mem",
        "qemu emulator binary qemu-binary qemu-path",
        "machine-type @machine machine",
        "command-line cmdline append kernel-args kernel-params kernel-parameters",
        "firmware loader bios uefi ovmf",
        "graphics display displays screen vnc spice",
        "videos video vga gpu",
        "host-devices hostdev hostdevs usb pci passthrough",
        "filesystems filesystem share shares mounts fs shared-folders",
        "qemu-arguments args qemu-args extra-args arguments",
        "file @file path image source src",
        "read-only readonly ro",
        "mac mac-address hwaddr",
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


def find_near(name: str, known: Sequence[str]) -> list[str]:
    """Return those of *known* that *name* may have meant, the likeliest first; up to three."""
    same = [one for group in SAME if name in group for one in known if one in group]
    plural = [one for one in known if one in (f"{name}s", name.removesuffix("s"))]
    return (same or plural or find_alike(name, known))[:MOST]


def find_alike(name: str, known: Sequence[str]) -> list[str]:
    """Return those of *known* that are spelled most like *name*, as for values."""
    near = difflib.get_close_matches(name, known, MOST, ALIKE)
    ratios = {one: difflib.SequenceMatcher(None, name, one).ratio() for one in near}
    return [one for one in near if ratios[one] >= ratios[near[0]] - NEXT]
