# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two disks that use one file are found where QEMU would not open it twice."""

from pathlib import Path

import pytest

from bpferry.machine.image_twins import find_twins
from tests.client.images import machine_of, write_qcow2
from tests.client.running import BASE, start

RAW = 'file = "i"\nformat = "raw"\n'
QCOW2 = 'file = "i"\nformat = "qcow2"\n'
SHARED, READ = "shareable = true\n", "read-only = true\n"


def twins_of(folder: Path, *disks: str) -> list[str]:
    """Return the keys and messages of what is found in a VM with *disks*."""
    return [f"{error.element}: {error.message}" for error in find_twins(machine_of(folder, *disks))]


@pytest.mark.parametrize(
    ("one", "other", "does"),
    [
        (RAW, RAW, "write to it"),
        (RAW, RAW + SHARED, "write to it"),
        (RAW, RAW + READ, "use it, and one writes to it"),
        (QCOW2 + SHARED, QCOW2 + SHARED, "write to it"),
    ],
)
def test_image_that_two_disks_may_not_have(one: str, other: str, does: str, tmp_path: Path) -> None:
    """One of them writes, and not both are shareable and raw."""
    write_qcow2(tmp_path / "i")

    assert twins_of(tmp_path, one, other) == [
        f"disks[1].file: cannot use '{tmp_path}/i' twice: two disks of this VM {does}"
    ]


@pytest.mark.parametrize(("one", "other"), [(RAW + READ, RAW + READ), (RAW + SHARED, RAW + SHARED)])
def test_image_that_two_disks_may_have(one: str, other: str, tmp_path: Path) -> None:
    """Nobody writes, or the guest knows that both are the same."""
    (tmp_path / "i").write_bytes(bytes(4096))

    assert [] == twins_of(tmp_path, one, other)


def test_links_are_the_same_file(tmp_path: Path) -> None:
    """Another name is no other image."""
    (tmp_path / "i").write_bytes(bytes(4096))
    (tmp_path / "hard").hardlink_to(tmp_path / "i")
    (tmp_path / "soft").symlink_to("i")

    found = twins_of(tmp_path, RAW, RAW.replace('"i"', '"hard"'), RAW.replace('"i"', '"soft"'))

    assert [one.partition(":")[0] for one in found] == ["disks[1].file", "disks[2].file"]


def test_image_below_two_others_may_be_shared_unless_it_is_a_disk_itself(tmp_path: Path) -> None:
    """Nobody writes to it, or a disk does that is in the way of what is above."""
    write_qcow2(tmp_path / "base")
    for name in ("a", "b"):
        write_qcow2(tmp_path / name, backing="base", of="qcow2")
    above = [QCOW2.replace('"i"', f'"{name}"') for name in ("a", "b")]

    assert [] == twins_of(tmp_path, *above)
    assert 1 == len(twins_of(tmp_path, above[0], QCOW2.replace('"i"', '"base"')))


@pytest.mark.qemu
@pytest.mark.parametrize(
    ("one", "other", "starts"),
    [
        (RAW + SHARED, RAW + SHARED, True),
        (RAW + READ, RAW + READ, True),
        (RAW, RAW + READ, False),
    ],
)
def test_real_qemu_sees_it_the_same_way(
    one: str, other: str, *, starts: bool, tmp_path: Path
) -> None:
    """What is found here is what QEMU refuses, and nothing else."""
    (tmp_path / "i").write_bytes(bytes(2**20))
    lines = "".join(f"[[disks]]\n{disk}" for disk in (one, other))
    with start(tmp_path, BASE + lines) as run:
        if starts:
            run.qemu()
        else:
            assert run.status() == 1
            assert "twice: two disks of this VM" in run.err()
