# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real BPF maps and programs for the tests, through libbpf and ctypes; root only."""

import ctypes
import functools
import mmap
import os
from dataclasses import dataclass

from bpferry.steering.maps import CONFIG, KEY_WORD, TABLE_ENTRY
from bpferry_wire.fds import BorrowedFd, OwnedFd, OwnedFds
from bpferry_wire.messages import FdDescription
from bpferry_wire.objects import RSS, MapShape

SOCKET_FILTER = 1
RETURN_ZERO = bytes.fromhex("b700000000000000 9500000000000000")
"""r0 = 0; exit"""


class MapOptions(ctypes.Structure):
    """struct bpf_map_create_opts of bpf/bpf.h, as far as it is set here."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("btf", ctypes.c_uint32 * 4),
        ("inner_map_fd", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
        ("rest", ctypes.c_uint64 * 3),
    )


class TestRunOptions(ctypes.Structure):
    """struct bpf_test_run_opts of bpf/bpf.h."""

    __test__ = False
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_char_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_void_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )


@functools.cache
def libbpf() -> ctypes.CDLL:
    """Return the system's libbpf, silenced."""
    lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
    lib.libbpf_set_print(None)
    pointer = ctypes.c_void_p
    lib.bpf_object__open_mem.restype = pointer
    lib.bpf_object__open_mem.argtypes = [ctypes.c_char_p, ctypes.c_size_t, pointer]
    lib.bpf_object__load.argtypes = [pointer]
    lib.bpf_object__close.argtypes = [pointer]
    lib.bpf_object__find_map_fd_by_name.argtypes = [pointer, ctypes.c_char_p]
    lib.bpf_object__find_program_by_name.restype = pointer
    lib.bpf_object__find_program_by_name.argtypes = [pointer, ctypes.c_char_p]
    lib.bpf_program__fd.argtypes = [pointer]
    lib.bpf_map_freeze.argtypes = [ctypes.c_int]
    return lib


def _checked(fd: int) -> OwnedFd:
    assert fd >= 0, os.strerror(-fd)
    return OwnedFd(fd)


def make_map(shape: MapShape) -> OwnedFd:
    """Create a map of *shape*."""
    options = MapOptions(sz=ctypes.sizeof(MapOptions), map_flags=shape.flags)
    fd = libbpf().bpf_map_create(
        shape.type,
        shape.name[:15].encode(),
        shape.key_size,
        shape.value_size,
        shape.entries,
        ctypes.byref(options),
    )
    return _checked(fd)


def make_program() -> OwnedFd:
    """Load a socket filter that does nothing."""
    fd = libbpf().bpf_prog_load(SOCKET_FILTER, b"nothing", b"GPL", RETURN_ZERO, 2, None)
    return _checked(fd)


def freeze(fd: BorrowedFd) -> None:
    """Make the map *fd* read-only for ever, as a hostile holder might."""
    assert libbpf().bpf_map_freeze(fd) == 0


def make_set() -> OwnedFds:
    """Make fds that look like the set of "rss": a program, then the three maps."""
    fds = OwnedFds([make_program().take()])
    for shape in RSS.maps:
        fds.add(make_map(shape).take())
    return fds


def describe_rss() -> tuple[FdDescription, ...]:
    """Return what a good helper says of such a set."""
    program = RSS.programs[0]
    return (
        FdDescription(program.name, "program", program.type),
        *(FdDescription(m.name, "map", *m[1:]) for m in RSS.maps),
    )


def load_object(elf: bytes) -> OwnedFds:
    """Load QEMU's own object and return program, config, key, table."""
    lib = libbpf()
    handle = lib.bpf_object__open_mem(elf, len(elf), None)
    assert handle
    try:
        assert lib.bpf_object__load(handle) == 0
        program = lib.bpf_object__find_program_by_name(handle, RSS.programs[0].name.encode())
        fds = OwnedFds([os.dup(lib.bpf_program__fd(program))])
        for shape in RSS.maps:
            fds.add(os.dup(lib.bpf_object__find_map_fd_by_name(handle, shape.name.encode())))
    finally:
        lib.bpf_object__close(handle)
    return fds


def run_program(fd: BorrowedFd, frame: bytes) -> int:
    """Run the socket filter *fd* on an Ethernet *frame*, and return what it returns."""
    options = TestRunOptions(
        sz=ctypes.sizeof(TestRunOptions), data_in=frame, data_size_in=len(frame)
    )
    answer = libbpf().bpf_prog_test_run_opts(fd, ctypes.byref(options))
    assert answer == 0, os.strerror(-answer)
    return int(options.retval)


@dataclass(frozen=True)
class Wanted:
    """What QEMU would write into the maps."""

    types: int
    key: bytes
    table: tuple[int, ...]
    default: int = 0
    redirect: int = 1


def write_maps(fds: OwnedFds, wanted: Wanted) -> None:
    """Write the maps of the set *fds* through mmap, in QEMU's layout."""
    _program, config, key, table = fds.borrow()
    word = KEY_WORD.pack(int.from_bytes(wanted.key[:4]))
    packed = CONFIG.pack(wanted.redirect, 0, wanted.types, len(wanted.table), wanted.default)
    entries = b"".join(TABLE_ENTRY.pack(queue) for queue in wanted.table)
    for fd, value in ((table, entries), (key, word + wanted.key[4:]), (config, packed)):
        with mmap.mmap(fd, mmap.PAGESIZE) as page:
            page[: len(value)] = value
