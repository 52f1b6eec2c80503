# SPDX-License-Identifier: LGPL-2.1-or-later
"""Huge pages that the host does not have are found before QEMU starts."""

from pathlib import Path

import pytest

from bpferry.commandline.build import Built
from bpferry.commandline.parts import Option, json_of
from bpferry.errors import NotReady
from bpferry.machine.huge_pages import find_missing_pages

MIB = 2**20
FILES = ("nr", "free", "resv", "nr_overcommit", "surplus")


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Make a host with pages of 2 MiB, the usual ones, and of 1 GiB."""
    (tmp_path / "meminfo").write_text("MemTotal: 1 kB\nHugepagesize:       2048 kB\n")
    reserve(tmp_path, 2048, 100, 60, 10, 0, 0)
    reserve(tmp_path, 1048576, 0, 0, 0, 0, 0)
    return tmp_path


def reserve(host: Path, size: int, *numbers: int) -> None:
    """Write the *numbers* of the pages of *size* KiB."""
    folder = host / "pools" / f"hugepages-{size}kB"
    folder.mkdir(parents=True, exist_ok=True)
    for name, number in zip(FILES, numbers, strict=True):
        (folder / f"{name}_hugepages").write_text(f"{number}\n")


def found(host: Path, *objects: dict[str, object]) -> list[NotReady]:
    """Return what is in the way of a VM with memory *objects*."""
    parts = tuple(Option("-object", json_of(one)) for one in objects)
    return list(find_missing_pages(Built((), parts, ()), host / "pools", host / "meminfo"))


def memory(size: int, page: int | None = None) -> dict[str, object]:
    """Return memory of *size* bytes in pages of *page* bytes."""
    return {"id": "m", "size": size, "hugetlb": True, "hugetlbsize": page}


def test_pages_that_are_left_are_enough(host: Path) -> None:
    """Those that are free and that nobody has reserved; and without huge pages, nothing is said."""
    assert [] == found(host, memory(100 * MIB))
    assert [] == found(host, {"id": "m", "size": 2**40})


def test_too_few_pages(host: Path) -> None:
    """All memory of the VM counts, and the command leaves others theirs."""
    (error,) = found(host, memory(100 * MIB), memory(20 * MIB - 1, 2 * MIB))

    assert error.message == (
        "the guest's memory takes 60 huge pages of 2048 KiB, and this host has 50 left"
    )
    assert "with 'sysctl vm.nr_hugepages=110'; or use memory without" in error.hint
    assert error.element == "memory-backing.huge-pages"


def test_pages_that_the_kernel_may_add_count(host: Path) -> None:
    """They need no reservation (nr_overcommit_hugepages)."""
    reserve(host, 2048, 0, 0, 0, 60, 10)

    assert [] == found(host, memory(100 * MIB))
    assert "has 50 left" in found(host, memory(102 * MIB))[0].message


def test_pages_of_another_size_have_another_command(host: Path) -> None:
    """The sysctl is about the usual size alone."""
    (error,) = found(host, memory(2**31, 2**30))

    assert "takes 2 huge pages of 1048576 KiB, and this host has none left" in error.message
    assert "'echo 2 > /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages'" in error.hint


def test_size_that_the_host_does_not_have(host: Path) -> None:
    """Those that it has are named."""
    (error,) = found(host, memory(2**31, 16 * MIB))

    assert error.message == "this host has no huge pages of 16384 KiB"
    assert error.hint == "choose a size that it has: 1048576kB, 2048kB"
