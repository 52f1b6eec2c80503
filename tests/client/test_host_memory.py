# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether the host has as much memory as a guest may use."""

from pathlib import Path

import msgspec
import pytest

from bpferry.cli.main import main
from bpferry.domain.model.machine import Machine
from bpferry.domain.model.memory import HugePages, MemoryBacking, MemoryDevice
from bpferry.machine.host_memory import find_scarce_memory, total_memory
from tests.client.support import MACHINE

GIB = 2**30
MIB = 2**20


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    """Return the file of a host with 3 GiB of memory and 1 GiB of swap."""
    path = tmp_path / "meminfo"
    path.write_text(
        "MemTotal:        3145728 kB\nHugePages_Total:       0\nSwapTotal:       1048576 kB\n",
        encoding="ascii",
    )
    return path


def of_size(size: int, **more: object) -> Machine:
    """Return a VM with *size* bytes of memory."""
    return msgspec.structs.replace(MACHINE, memory=size, **more)


def test_memory_and_swap_are_added(meminfo: Path) -> None:
    """Lines without a unit do no harm."""
    assert total_memory(meminfo) == 4 * GIB


@pytest.mark.parametrize("text", ["", "MemTotal: 1 kB\n", "MemTotal:\nSwapTotal: 0 kB\n"])
def test_a_host_that_does_not_say_is_not_judged(tmp_path: Path, text: str) -> None:
    """Nor one whose file is missing."""
    path = tmp_path / "meminfo"
    assert [] == list(find_scarce_memory(of_size(GIB), path))
    path.write_text(text, encoding="ascii")

    assert [] == list(find_scarce_memory(of_size(GIB), path))


@pytest.mark.parametrize(("size", "told"), [(4 * GIB, False), (4 * GIB + MIB, True)])
def test_more_memory_than_there_is_is_a_warning(meminfo: Path, size: int, told: bool) -> None:  # noqa: FBT001
    """All of it is not more."""
    found = list(find_scarce_memory(of_size(size), meminfo))

    assert told is bool(found)
    assert [] == [one for one in found if one.level != "warning" or one.key != "memory"]


def test_modules_count_and_files_do_not(meminfo: Path) -> None:
    """A module in a file is read from there."""
    module = MemoryDevice(model="dimm", size=2 * GIB)
    in_file = MemoryDevice(model="nvdimm", size=9 * GIB, file="/tmp/x")
    [found] = find_scarce_memory(of_size(3 * GIB, memory_devices=(module, in_file)), meminfo)

    assert "may use 5.0 GiB of memory, and this host has 4.0 GiB with its swap" in found.message


@pytest.mark.parametrize(
    "backing", [MemoryBacking(huge_pages=HugePages()), MemoryBacking(source="file")]
)
def test_memory_from_elsewhere_is_not_counted(meminfo: Path, backing: MemoryBacking) -> None:
    """Huge pages are checked by their number, and a file may be larger than memory."""
    assert [] == list(find_scarce_memory(of_size(9 * GIB, memory_backing=backing), meminfo))


@pytest.mark.qemu
def test_check_warns_and_the_vm_can_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The warning has its place, its cause and a way out."""
    file = tmp_path / "vm.toml"
    text = 'name = "x"\nmemory = "16000 GiB"\naccelerator = "tcg"\n'
    file.write_text(text, encoding="utf-8")

    assert main(["check", str(file)]) == 0
    said = capsys.readouterr().out
    assert f"warning: '{file}':2: 'memory': the guest may use 16000.0 GiB of memory" in said
    assert "the kernel ends QEMU or another process" in said
    assert "fix: give the guest less memory, or the host more swap" in said
