# SPDX-License-Identifier: LGPL-2.1-or-later
"""From the bytes of an object to described fds, in the running kernel."""

import os
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bpferry_helper.bpf.binary import open_trusted
from bpferry_helper.bpf.embedded import scan
from bpferry_helper.bpf.loader import check_shape, load
from bpferry_helper.errors import RequestError
from bpferry_wire.errors import Code
from bpferry_wire.limits import MAX_FDS_PER_REPLY
from bpferry_wire.messages import FdDescription
from bpferry_wire.objects import KNOWN, RSS, MapShape, ObjectShape, ProgramShape
from tests import requires
from tests.support.census import Held, held_through_fds
from tests.support.compiler import bpf_object, simple
from tests.support.helper_process import PYTHON, as_helper, installed, left_alive
from tests.support.old_qemu import old_qemu_binary

if TYPE_CHECKING:
    from bpferry_helper.bpf import loader

pytestmark = [pytest.mark.privileged, pytest.mark.kernel]

NONE: frozenset[int] = frozenset()
XDP = 6


def refusal(elf: bytes, object_id: str, types: frozenset[int] = NONE) -> RequestError:
    """Return the error with which loading *elf* fails."""
    with pytest.raises(RequestError) as caught:
        load(elf, object_id, types)
    return caught.value


@pytest.mark.qemu
def test_rss_is_handed_over_in_qemu_s_order(rss: bytes) -> None:
    """The program, then configuration, key and table: as ebpf-rss-fds wants them."""
    loaded = load(rss, "rss", NONE)
    with loaded.fds:
        held = [held_through_fds([fd.borrow()]) for fd in loaded.fds]

    expected = (
        FdDescription("tun_rss_steering_prog", "program", 1),
        FdDescription(
            "tap_rss_map_configurations",
            "map",
            2,
            key_size=4,
            value_size=10,
            entries=1,
            flags=0x400,
        ),
        FdDescription(
            "tap_rss_map_toeplitz_key", "map", 2, key_size=4, value_size=40, entries=1, flags=0x400
        ),
        FdDescription(
            "tap_rss_map_indirection_table",
            "map",
            2,
            key_size=4,
            value_size=2,
            entries=128,
            flags=0x400,
        ),
    )
    assert expected == loaded.descriptions
    assert [frozenset({Held("map", number)}) for number in loaded.map_ids] == held[1:]


@pytest.mark.qemu
def test_the_fds_are_what_the_description_says(rss: bytes) -> None:
    """By the kernel's own word about each map."""
    with load(rss, "rss", NONE).fds as fds:
        infos = [Path(f"/proc/self/fdinfo/{fd.borrow()}").read_text() for fd in fds]
    seen = [
        tuple(int(line.split()[1], 0) for line in info.splitlines() if line.startswith(FIELDS))
        for info in infos[1:]
    ]

    assert [tuple(m[1:]) for m in RSS.maps] == seen


FIELDS = ("map_type:", "key_size:", "value_size:", "max_entries:", "map_flags:")


@pytest.mark.qemu
def test_each_load_is_fresh(rss: bytes) -> None:
    """A map that two users share is one that each can freeze for the other."""
    first, second = load(rss, "rss", NONE), load(rss, "rss", NONE)
    with first.fds, second.fds:
        assert not set(first.map_ids) & set(second.map_ids)


@pytest.mark.qemu
def test_nothing_is_left_once_the_fds_are_closed(rss: bytes) -> None:
    """Nothing is pinned, and libbpf keeps nothing."""
    loaded = load(rss, "rss", NONE)
    with loaded.fds:
        held = held_through_fds(fd.borrow() for fd in loaded.fds)

    assert (4, set()) == (len(held), left_alive(held))


@pytest.mark.qemu
def test_every_fd_is_closed_on_exec(rss: bytes) -> None:
    """The helper runs no program; the rule has no exception all the same."""
    with load(rss, "rss", NONE).fds as fds:
        assert [os.get_inheritable(fd.borrow()) for fd in fds] == [False] * 4


@pytest.mark.qemu
def test_two_threads_load_at_the_same_time(rss: bytes) -> None:
    """Ctypes lets go of the interpreter's lock, and libbpf's errors are each thread's own."""
    loaded: list[loader.LoadedSet] = []
    threads = [
        threading.Thread(target=lambda: loaded.append(load(rss, "rss", NONE))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = {number for one in loaded for number in one.map_ids}
    for one in loaded:
        one.fds.close()

    assert len(ids) == 12


def test_the_object_of_an_older_qemu_is_refused() -> None:
    """QEMU 7.2 had an object before the hand-over, of a form that libbpf 1 does not open."""
    requires.mmdebstrap()
    error = refusal(first_object(old_qemu_binary()), "rss")

    assert (error.code, str(error)[:29]) == (Code.UNSUPPORTED, "libbpf cannot open the object")


def first_object(path: Path) -> bytes:
    """Return the first object in *path*."""
    opened = open_trusted(str(path))
    with opened.fd:
        found = scan(opened)[0]
        return os.pread(opened.fd.borrow(), found.length, found.offset)


@pytest.mark.qemu
def test_a_known_object_under_an_unknown_id_needs_the_policy(rss: bytes) -> None:
    """Its program type is not allowed by default."""
    error = refusal(rss, "steering")

    assert (error.code, "program-types" in error.hint) == (Code.UNKNOWN_OBJECT, True)


def test_an_unknown_object_loads_if_the_policy_names_its_type(tmp_path: Path) -> None:
    """An id of a later QEMU passes by its program types."""
    elf = bpf_object(simple("xdp"), tmp_path / "a.o")
    loaded = load(elf, "later", frozenset({XDP}))
    with loaded.fds as fds:
        assert [(d.name, d.kind) for d in loaded.descriptions] == [
            ("look", "program"),
            ("seen", "map"),
        ]
        assert len(fds) == 2


def test_an_unknown_object_of_another_type_is_refused(tmp_path: Path) -> None:
    """The policy names one type, the object has another."""
    elf = bpf_object(simple("tc"), tmp_path / "a.o")

    assert refusal(elf, "later", frozenset({XDP})).code == Code.UNKNOWN_OBJECT


def test_another_object_does_not_pass_for_rss(tmp_path: Path) -> None:
    """A program of the right type alone is not enough."""
    elf = bpf_object(simple("socket"), tmp_path / "a.o")

    assert refusal(elf, "rss", frozenset({1})).code == Code.UNKNOWN_OBJECT


LIKE_RSS = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define ARRAY(name, size, count, bits) \\
    struct { \\
        __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, count); __uint(map_flags, bits); \\
        __uint(key_size, 4); __uint(value_size, size); \\
    } name SEC(".maps")

ARRAY(tap_rss_map_configurations, %(config)s, 1, 0x400);
ARRAY(tap_rss_map_toeplitz_key, 40, 1, 0x400);
ARRAY(tap_rss_map_indirection_table, 2, %(table)s, %(flags)s);

SEC("%(section)s")
int tun_rss_steering_prog(void *context)
{
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
"""

REAL = {"config": "10", "table": "128", "flags": "0x400", "section": "socket"}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, None),
        ({"flags": "0"}, Code.UNKNOWN_OBJECT),
        ({"table": "129"}, Code.UNKNOWN_OBJECT),
        ({"config": "12"}, Code.UNKNOWN_OBJECT),
        ({"section": "xdp"}, Code.UNKNOWN_OBJECT),
    ],
    ids=["nothing", "flags", "entries", "value size", "program type"],
)
def test_what_libbpf_says_of_each_map_is_looked_at(
    tmp_path: Path, changed: dict[str, str], expected: Code | None
) -> None:
    """An object of the form of rss passes; with one thing changed it does not."""
    elf = bpf_object(LIKE_RSS % {**REAL, **changed}, tmp_path / "a.o")
    try:
        load(elf, "rss", NONE).fds.close()
        code = None
    except RequestError as error:
        code = error.code

    assert expected == code


@pytest.mark.parametrize("elf", [b"", b"\x7fELF", b"x" * 1000], ids=["empty", "magic", "text"])
def test_what_is_not_an_object_is_an_error(elf: bytes) -> None:
    """Libbpf's own words come with it."""
    error = refusal(elf, "rss")

    assert (error.code, "libbpf cannot open the object" in str(error)) == (Code.UNSUPPORTED, True)


def test_the_verifier_s_reason_is_in_the_error(tmp_path: Path) -> None:
    """The line of its log that says why."""
    source = simple("socket").replace("*count +=", "count[100] +=")
    error = refusal(bpf_object(source, tmp_path / "a.o"), "later", frozenset({1}))

    assert (error.code, "outside of the allowed memory range" in str(error)) == (
        Code.FAILED,
        True,
    )


@pytest.mark.qemu
def test_without_cap_perfmon_the_verifier_says_why(rss: bytes, tmp_path: Path) -> None:
    """The helper's user with CAP_BPF alone gets EACCES, the verifier's line and a hint."""
    program = (
        f"import sys; sys.path += ['{installed()}', '/usr/lib/python3/dist-packages']\n"
        "from bpferry_helper.bpf.loader import load\n"
        "from bpferry_helper.errors import RequestError\n"
        "try: load(sys.stdin.buffer.read(), 'rss', frozenset())\n"
        "except RequestError as error: print(error.code, error, error.hint, sep='\\n')\n"
    )
    command = as_helper([PYTHON, "-I", "-c", program], capabilities="-all,+bpf")
    done = subprocess.run(command, input=rss, capture_output=True, check=True, cwd=tmp_path)
    code, message, hint = done.stdout.decode().splitlines()

    assert (code, "the verifier: '" in message) == ("failed", True)
    assert "EACCES" in message
    assert "CAP_PERFMON" in hint


WRONG_SHAPES = {
    "no program": ObjectShape((), RSS.maps),
    "another program": ObjectShape((ProgramShape("other", 1),), RSS.maps),
    "another program type": ObjectShape((ProgramShape(RSS.programs[0].name, 6),), RSS.maps),
    "the program twice": ObjectShape(RSS.programs * 2, RSS.maps),
    "two programs": ObjectShape((*RSS.programs, ProgramShape("more", 1)), RSS.maps),
    "a map too few": ObjectShape(RSS.programs, RSS.maps[:2]),
    "a map too many": ObjectShape(RSS.programs, (*RSS.maps, RSS.maps[0]._replace(name="x"))),
    "a map twice": ObjectShape(RSS.programs, (*RSS.maps[:2], RSS.maps[0])),
    "a renamed map": ObjectShape(RSS.programs, (*RSS.maps[:2], RSS.maps[2]._replace(name="x"))),
    "a larger map": ObjectShape(RSS.programs, (*RSS.maps[:2], RSS.maps[2]._replace(entries=129))),
    "another map type": ObjectShape(RSS.programs, (*RSS.maps[:2], RSS.maps[2]._replace(type=1))),
    "a map not to be mapped": ObjectShape(
        RSS.programs, (*RSS.maps[:2], RSS.maps[2]._replace(flags=0))
    ),
    "a longer value": ObjectShape(
        RSS.programs, (RSS.maps[0]._replace(value_size=12), *RSS.maps[1:])
    ),
}


@pytest.mark.parametrize("shape", WRONG_SHAPES.values(), ids=WRONG_SHAPES)
def test_rss_has_exactly_its_programs_and_maps(shape: ObjectShape) -> None:
    """Anything less, more or else is refused before the kernel sees it."""
    with pytest.raises(RequestError) as caught:
        check_shape(shape, "rss", frozenset({1, 3, 6}))

    assert caught.value.code == Code.UNKNOWN_OBJECT


def test_the_order_in_the_file_means_nothing() -> None:
    """Compilers order maps as they like."""
    check_shape(ObjectShape(RSS.programs, RSS.maps[::-1]), "rss", NONE)


@pytest.mark.parametrize(
    ("maps", "allowed"), [(MAX_FDS_PER_REPLY - 1, True), (MAX_FDS_PER_REPLY, False)]
)
def test_an_unknown_object_is_bounded(maps: int, *, allowed: bool) -> None:
    """As many fds as one reply carries, one of them the program's."""
    many = tuple(
        MapShape(f"m{n}", 2, key_size=4, value_size=4, entries=1, flags=0) for n in range(maps)
    )
    shape = ObjectShape((ProgramShape("p", 1),), many)
    try:
        check_shape(shape, "later", frozenset({1}))
        passed = True
    except RequestError:
        passed = False

    assert allowed == passed


def test_an_unknown_object_without_programs_is_refused() -> None:
    """Maps alone are nothing that a QEMU would ask for."""
    with pytest.raises(RequestError):
        check_shape(ObjectShape((), RSS.maps), "later", frozenset({1}))


def test_rss_is_the_one_id_that_is_known() -> None:
    """A second one needs a line here and in the documentation."""
    assert list(KNOWN) == ["rss"]
