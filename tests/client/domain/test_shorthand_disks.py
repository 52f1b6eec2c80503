# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the native form leaves unsaid about disks."""

from pathlib import Path

import pytest

from bpferry.domain.document import read_bytes
from bpferry.errors import BadInput

HEAD = 'name = "x"\nmemory = "64 MiB"\n'


def disks_of(lines: str) -> list[tuple[str | None, str]]:
    """Return bus and target of each disk of a native description."""
    machine = read_bytes((HEAD + lines).encode(), Path("/vm.toml")).machine
    return [(disk.bus, disk.target) for disk in machine.disks]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('[[disks]]\nfile = "a"\n[[disks]]\nfile = "b"', [("virtio", "vda"), ("virtio", "vdb")]),
        ('[[disks]]\nbus = "scsi"', [("scsi", "sda")]),
        ('[[disks]]\ndevice = "cdrom"', [("sata", "sda")]),
        ('machine-type = "pc"\n[[disks]]\ndevice = "cdrom"', [("ide", "hda")]),
        ('arch = "aarch64"\n[[disks]]\ndevice = "cdrom"', [("scsi", "sda")]),
        ('[[disks]]\ndevice = "floppy"', [("fdc", "fda")]),
        ('[[disks]]\ntarget = "vda"\n[[disks]]\nfile = "b"', [(None, "vda"), ("virtio", "vdb")]),
        ('[[disks]]\nbus = "sata"\n[[disks]]\nbus = "usb"', [("sata", "sda"), ("usb", "sdb")]),
    ],
)
def test_bus_and_target(lines: str, expected: list[tuple[str, str]]) -> None:
    """A disk gets the usual bus for what it is, and the next free name on it."""
    assert expected == disks_of(lines)


@pytest.mark.parametrize("lines", ['disks = [1, "a"]', 'disks = "x"', "[[disks]]\nbus = 3"])
def test_wrong_types_are_left_to_the_types(lines: str) -> None:
    """Nonsense is bad input like everywhere, and no crash."""
    with pytest.raises(BadInput):
        disks_of(lines)


def test_more_disks_than_names() -> None:
    """Where the names end, the target is missing."""
    with pytest.raises(BadInput, match="target' is missing"):
        disks_of("[[disks]]\n" * 703)
