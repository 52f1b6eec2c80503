# SPDX-License-Identifier: LGPL-2.1-or-later
"""A client writes to its maps; the program that reads them is masked against Spectre v1."""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, Final

import pytest

from bpferry_helper import privilege
from bpferry_helper.bpf import loader, maps
from bpferry_helper.bpf.census import Census, CensusUnavailable
from bpferry_helper.bpf.libbpf import LibbpfError, library
from bpferry_helper.bpf.loader import load
from bpferry_helper.errors import HelperError
from bpferry_helper.privilege import (
    CAPABILITY_NUMBERS,
    _capability_sets,
    _held_capabilities,
    lowered,
)
from tests.support.children import in_child
from tests.support.qemu import rss_object

pytestmark = [pytest.mark.privileged, pytest.mark.kernel, pytest.mark.qemu]

NO_TYPES: Final[frozenset[int]] = frozenset()

INSTRUCTION_BYTES: Final = 8
AND_32: Final = 0x54
"""linux/bpf_common.h: BPF_ALU | BPF_AND | BPF_K, "w0 &= number" of a translated program."""

TABLE_ENTRIES: Final = 128
"""Of tap_rss_map_indirection_table, whose index the guest's packets choose."""


class ProgramInfo(ctypes.Structure):
    """The first fields of struct bpf_prog_info, linux/bpf.h."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("tag", ctypes.c_uint8 * 8),
        ("jited_prog_len", ctypes.c_uint32),
        ("xlated_prog_len", ctypes.c_uint32),
        ("jited_prog_insns", ctypes.c_uint64),
        ("xlated_prog_insns", ctypes.c_uint64),
    )


@pytest.fixture(autouse=True)
def no_more_than_the_helper_s(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Act without CAP_SYS_ADMIN, which stands in for CAP_PERFMON (perfmon_capable())."""
    monkeypatch.setitem(CAPABILITY_NUMBERS, "CAP_SYS_ADMIN", 21)
    with lowered("CAP_SYS_ADMIN"):
        yield


def masks_in(program: int) -> list[int]:
    """Return the masks of 32 bits in the translated program *program*, as root sees it."""
    code = ctypes.create_string_buffer(65_536)
    info = ProgramInfo(xlated_prog_len=len(code), xlated_prog_insns=ctypes.addressof(code))
    size = ctypes.c_uint32(ctypes.sizeof(info))
    assert 0 == library().bpf_obj_get_info_by_fd(program, ctypes.byref(info), ctypes.byref(size))
    places = range(0, info.xlated_prog_len, INSTRUCTION_BYTES)
    instructions = [code.raw[place : place + INSTRUCTION_BYTES] for place in places]
    assert len(instructions) > 500
    return [int.from_bytes(i[4:], "little") for i in instructions if i[0] == AND_32]


def masks_of_a_set() -> list[int]:
    """Return the masks in the program of a fresh set of "rss"."""
    with load(rss_object(), "rss", NO_TYPES).fds as fds:
        return masks_in(fds[0].borrow())


def test_each_lookup_of_a_granted_set_masks_its_index() -> None:
    """One in the table of 128 entries, one in each of the two maps of one entry."""
    assert [0, 0, TABLE_ENTRIES - 1] == sorted(masks_of_a_set())


def test_with_perfmon_at_the_creation_of_the_maps_nothing_is_masked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The control: the same maps, created with the capability that the program needs."""
    monkeypatch.setattr(maps, "lowered", lambda _: nullcontext())

    assert [] == masks_of_a_set()


def test_libbpf_alone_masks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other control: as the helper loaded the set before."""
    monkeypatch.setattr(loader, "create_arrays", lambda _: None)

    assert [] == masks_of_a_set()


def test_a_program_that_is_loaded_without_perfmon_is_refused() -> None:
    """So it must be raised again: the verifier looks at it when the program is loaded."""
    with lowered("CAP_PERFMON"), pytest.raises(HelperError, match="cannot load the object"):
        load(rss_object(), "rss", NO_TYPES)


def test_only_this_thread_is_without_the_capability_and_only_for_a_while() -> None:
    """Another worker may be loading a program at the same time."""
    number = CAPABILITY_NUMBERS["CAP_PERFMON"]
    seen: list[bool] = []
    is_low = threading.Event()

    def look() -> None:
        is_low.wait()
        seen.append(number in _held_capabilities("CapEff"))

    other = threading.Thread(target=look)
    other.start()
    with lowered("CAP_PERFMON"):
        inside = {kind: number in _held_capabilities(kind) for kind in ("CapEff", "CapPrm")}
        is_low.set()
        other.join()
    after = number in _held_capabilities("CapEff")

    assert ({"CapEff": False, "CapPrm": True}, [True], True) == (inside, seen, after)


def test_it_comes_back_when_a_map_cannot_be_created() -> None:
    """An error inside the block must not leave the worker without it."""
    with pytest.raises(LibbpfError), lowered("CAP_PERFMON"):
        raise LibbpfError("cannot create a map", 12)

    assert CAPABILITY_NUMBERS["CAP_PERFMON"] in _held_capabilities("CapEff")


def test_a_worker_that_cannot_raise_it_again_ends_the_helper(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Systemd starts it again, with all of its capabilities."""
    calls = iter(["capget", "capset"])

    def only_twice(call: str, sets: Any) -> Any:  # noqa: ANN401 - not public
        if next(calls, "") != call:
            raise HelperError(f"{call}(2) fails with errno 1")
        return _capability_sets(call, sets)

    with monkeypatch.context() as patch:
        patch.setattr(privilege, "_capability_sets", only_twice)
        with pytest.raises(AssertionError, match="the child ended with 70"):
            in_child(lower_and_raise)

    assert "cannot raise CAP_PERFMON again: capset(2) fails" in capfd.readouterr().err


def lower_and_raise() -> None:
    """Do nothing without CAP_PERFMON."""
    with lowered("CAP_PERFMON"):
        pass


def test_a_worker_that_stays_without_it_would_never_count_again() -> None:
    """The control: one census without the capability, and the helper believes it for good."""
    census = Census()
    with lowered("CAP_PERFMON"), pytest.raises(CensusUnavailable):
        census.alive()
    with pytest.raises(CensusUnavailable):
        census.alive()

    again = Census()
    assert again.alive() is not None
    assert again._link is not None
    again._link.close()


def test_where_it_cannot_be_lowered_nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit whose filter denies capset(2) grants no set that is not masked."""

    def lowered_in_vain(_name: str) -> None:
        raise HelperError("capset(2) fails with errno 1")

    monkeypatch.setattr(maps, "lowered", lowered_in_vain)

    with pytest.raises(HelperError, match="capset"):
        masks_of_a_set()
