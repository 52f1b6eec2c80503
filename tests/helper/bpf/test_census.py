# SPDX-License-Identifier: LGPL-2.1-or-later
"""The census sees maps appear and vanish; its object is what its source says."""

import os
import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from bpferry_helper.bpf import census as census_module
from bpferry_helper.bpf import libbpf
from bpferry_helper.bpf.census import OBJECT, Census, CensusUnavailable
from bpferry_helper.bpf.libbpf import LibbpfError
from bpferry_helper.bpf.loader import load
from tests import requires
from tests.support.census import ids_on_host, wait_until
from tests.support.compiler import bpf_object

SOURCE = Path(OBJECT).with_suffix(".c")
NONE: frozenset[int] = frozenset()

needs_kernel = pytest.mark.kernel


@pytest.fixture
def census() -> Iterator[Census]:
    """Yield a census and close what it keeps for good."""
    census = Census()
    yield census
    if census._link is not None:
        census._link.close()


@needs_kernel
@pytest.mark.qemu
def test_a_set_appears_and_vanishes(census: Census, rss: bytes) -> None:
    """Its maps are alive while their fds are open, and no longer."""
    loaded = load(rss, "rss", NONE)
    with loaded.fds:
        during = census.alive().issuperset(loaded.map_ids)

    assert (
        during,
        wait_until(lambda: not census.alive().intersection(loaded.map_ids)),
    ) == (True, True)


@needs_kernel
@pytest.mark.qemu
def test_one_map_of_a_set_can_outlive_the_others(census: Census, rss: bytes) -> None:
    """What somebody still holds is alive, and only that."""
    loaded = load(rss, "rss", NONE)
    last = loaded.fds[3].take()
    loaded.fds.close()
    wanted = {loaded.map_ids[2]}
    alone = wait_until(lambda: wanted == census.alive().intersection(loaded.map_ids))
    os.close(last)

    assert alone


@needs_kernel
def test_it_sees_what_root_sees(census: Census) -> None:
    """The same ids as BPF_MAP_GET_NEXT_ID gives to root, but for those that come and go."""
    before = ids_on_host("map")
    alive = census.alive()
    after = ids_on_host("map")

    assert before & after <= alive <= before | after | alive & after


@needs_kernel
@pytest.mark.qemu
def test_several_sets_are_all_seen(census: Census, rss: bytes) -> None:
    """None is passed over."""
    sets = [load(rss, "rss", NONE) for _ in range(8)]
    alive = census.alive()
    for one in sets:
        one.fds.close()

    assert all(alive.issuperset(one.map_ids) for one in sets)


@needs_kernel
def test_asking_leaves_nothing_open_but_the_link(census: Census) -> None:
    """However often it is asked."""
    census.alive()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count
    for _ in range(50):
        census.alive()

    assert before == len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def test_a_kernel_that_cannot_is_asked_once(
    census: Census, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same answer for ever, without another try."""
    tried = []

    def attach() -> None:
        tried.append(1)
        raise LibbpfError("cannot load", 2)

    monkeypatch.setattr(census_module, "_attach", attach)
    for _ in range(3):
        with pytest.raises(CensusUnavailable, match="cannot list its BPF maps"):
            census.alive()

    assert tried == [1]


@pytest.mark.parametrize("number", [12, 23, 24])
def test_a_want_of_fds_or_memory_passes(
    census: Census, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """It is an error of this time, and the next time is tried again."""

    def attach() -> None:
        raise LibbpfError("cannot load", number)

    monkeypatch.setattr(census_module, "_attach", attach)
    for _ in range(2):
        with pytest.raises(LibbpfError):
            census.alive()

    assert census._unavailable is None


def rebuilt(tmp_path: Path) -> Path:
    """Return the object as this host's clang makes it from the source."""
    target = tmp_path / "map_ids.bpf.o"
    bpf_object(SOURCE, target)
    return target


def section(path: str | Path, name: str) -> bytes:
    """Return the bytes of the section *name* of *path*."""
    with Path(path).open("rb") as file:
        found = ELFFile(file).get_section_by_name(name)
        assert found is not None
        return bytes(found.data())


@pytest.mark.parametrize("name", ["iter/bpf_map", "license"])
def test_the_shipped_object_is_what_its_source_says(tmp_path: Path, name: str) -> None:
    """The same instructions and the same licence come out when it is built again."""
    assert section(rebuilt(tmp_path), name) == section(OBJECT, name)


def test_the_shipped_object_reads_the_fields_that_its_source_reads(tmp_path: Path) -> None:
    """The same structures, fields and relocations, as bpftool shows the BTF of both."""
    assert btf_of(rebuilt(tmp_path)) == btf_of(Path(OBJECT))


def btf_of(path: Path) -> list[str]:
    """Return the types that the object describes, sorted, without their numbers."""
    command = [requires.program("bpftool"), "btf", "dump", "file", str(path)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return sorted(re.sub(r"\[\d+\] |type_id=\d+", "", line) for line in text.splitlines())


def test_the_shipped_object_has_its_core_relocations(tmp_path: Path) -> None:
    """Without them it would read at fixed places, wrong on the next kernel."""
    built, shipped = relocations(rebuilt(tmp_path)), relocations(OBJECT)

    assert built == shipped
    assert [(0, "0:1"), (16, "0:0"), (32, "0:0"), (40, "0:0")] == shipped


def relocations(path: str | Path) -> list[tuple[int, str]]:
    """Return the byte of each relocated instruction, and the field as BTF spells its place.

    Numbers of types and places of strings differ between compilers; linux/btf.h has the headers,
    libbpf's src/libbpf_internal.h the records.
    """
    types, extension = section(path, ".BTF"), section(path, ".BTF.ext")
    (head,) = struct.unpack_from("=I", types, 4)
    strings = types[head + struct.unpack_from("=I", types, 16)[0] :]
    (head,) = struct.unpack_from("=I", extension, 4)
    start = head + struct.unpack_from("=I", extension, 24)[0]
    record_bytes, _, count = struct.unpack_from("=III", extension, start)
    found = []
    for number in range(count):
        place = start + 12 + number * record_bytes
        instruction, _, text = struct.unpack_from("=III", extension, place)
        found.append((instruction, strings[text:].split(b"\0", 1)[0].decode()))
    return found


@needs_kernel
def test_a_missing_library_is_an_error_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The administrator learns which one."""
    monkeypatch.setattr(libbpf, "SONAME", "libbpf.so.0-missing")
    libbpf.library.cache_clear()
    try:
        with pytest.raises(LibbpfError, match=r"cannot load 'libbpf\.so\.0-missing'"):
            libbpf.library()
    finally:
        libbpf.library.cache_clear()
