# SPDX-License-Identifier: LGPL-2.1-or-later
"""Turns the bytes of a trusted object into owned, described fds.

The bytes come from a file that only root can write (trust). libbpf is not made for anything else:
its maintainers say so, and one in three hundred random changes to an object crashes libbpf 1.1.

The shape of the object is checked after libbpf has opened it and before the kernel sees it. If we
know the id, it must have exactly the right programs and maps; if not, only program types that
policy names. Programs and maps are looked up by name, since their order in the file means nothing.
"""

import ctypes
import errno
import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from bpferry_helper.bpf.libbpf import LibbpfError, last_error, library, map_id
from bpferry_helper.bpf.maps import create_arrays
from bpferry_helper.errors import NO_RESOURCES, HelperError, RequestError
from bpferry_wire.errors import Code
from bpferry_wire.fds import OwnedFds
from bpferry_wire.limits import MAX_FDS_PER_REPLY
from bpferry_wire.messages import FdDescription
from bpferry_wire.objects import KNOWN, MapShape, ObjectShape, ProgramShape

VERIFIER_LOG_BYTES: Final = 262_144
"""Filled only if a program is rejected. Kernels before 6.4 answer ENOSPC if the log is longer."""

MIN_FD: Final = 3
"""Copies of fds are made above standard error."""

Pointer = int


class LoadedSet(NamedTuple):
    """One object in the kernel. The holder of this owns its fds: programs, then maps."""

    fds: OwnedFds
    descriptions: tuple[FdDescription, ...]
    map_ids: tuple[int, ...]


def load(elf: bytes, object_id: str, program_types: frozenset[int]) -> LoadedSet:
    """Load *elf* with fresh maps. Takes about 70 ms of CPU time; other threads run meanwhile.

    Args:
        elf: the bytes of a trusted object file.
        object_id: what the client calls it, such as "rss".
        program_types: BPF_PROG_TYPE_* that policy allows for unknown ids.

    Raises:
        RequestError: the object does not have the shape of its id, or cannot be loaded.
    """
    try:
        with _opened(elf) as obj:
            shape = _shape(obj)
            check_shape(shape, object_id, program_types)
            return _load(obj, KNOWN.get(object_id, shape))
    except LibbpfError as error:
        raise RequestError(Code.FAILED, str(error), _hint(error)) from error


@contextmanager
def _opened(elf: bytes) -> Iterator[Pointer]:
    """Open *elf*, and close it afterwards together with libbpf's own fds."""
    lib = library()
    obj = lib.bpf_object__open_mem(elf, len(elf), None)
    if not obj:
        raise _cannot_open(last_error("libbpf cannot open the object"))
    try:
        yield obj
    finally:
        lib.bpf_object__close(obj)


def _cannot_open(error: LibbpfError) -> HelperError:
    """Return what to raise: the format is rejected, unless we were out of fds or memory."""
    if error.errno in NO_RESOURCES:
        return error
    return RequestError(
        Code.UNSUPPORTED, str(error), "this QEMU is too old for this libbpf: use QEMU 9.0 or newer"
    )


def _walk(following: Callable[[Pointer, Pointer | None], Pointer], obj: Pointer) -> list[Pointer]:
    found = []
    item = following(obj, None)
    while item:
        found.append(item)
        item = following(obj, item)
    return found


def _shape(obj: Pointer) -> ObjectShape:
    lib = library()
    programs = (
        ProgramShape(_text(lib.bpf_program__name(p)), lib.bpf_program__type(p))
        for p in _walk(lib.bpf_object__next_program, obj)
    )
    maps = (
        MapShape(
            name=_text(lib.bpf_map__name(m)),
            type=lib.bpf_map__type(m),
            key_size=lib.bpf_map__key_size(m),
            value_size=lib.bpf_map__value_size(m),
            entries=lib.bpf_map__max_entries(m),
            flags=lib.bpf_map__map_flags(m),
        )
        for m in _walk(lib.bpf_object__next_map, obj)
    )
    return ObjectShape(tuple(programs), tuple(maps))


def _text(name: bytes) -> str:
    return name.decode("ascii", errors="backslashreplace")


def check_shape(shape: ObjectShape, object_id: str, program_types: frozenset[int]) -> None:
    """Raise RequestError unless an object of *shape* may be loaded under *object_id*."""
    known = KNOWN.get(object_id)
    if known is not None:
        same = (set(shape.programs), set(shape.maps)) == (set(known.programs), set(known.maps))
        if not same or len(shape.programs) + len(shape.maps) != len(known.programs + known.maps):
            raise RequestError(
                Code.UNKNOWN_OBJECT,
                f"the object of this digest does not have the programs and maps of '{object_id}'",
                "this QEMU is too old, or newer than this bpferry",
            )
        return
    foreign = {program.type for program in shape.programs} - program_types
    if foreign or not shape.programs:
        raise RequestError(
            Code.UNKNOWN_OBJECT,
            f"this helper does not know '{object_id}', and policy does not allow its types",
            "the administrator can name them in [objects] program-types",
        )
    if len(shape.programs) + len(shape.maps) > MAX_FDS_PER_REPLY:
        raise RequestError(Code.UNKNOWN_OBJECT, f"'{object_id}' has too many programs and maps")


def _load(obj: Pointer, shape: ObjectShape) -> LoadedSet:
    lib = library()
    log = ctypes.create_string_buffer(VERIFIER_LOG_BYTES)
    for program in _walk(lib.bpf_object__next_program, obj):
        lib.bpf_program__set_log_buf(program, log, len(log))
    create_arrays(_walk(lib.bpf_object__next_map, obj))
    if lib.bpf_object__load(obj) != 0:
        number = ctypes.get_errno()
        raise LibbpfError(f"cannot load the object{_verdict(log.value)}", number)
    return _collect(obj, shape)


def _verdict(log: bytes) -> str:
    """Return the line of the verifier's log that says why, and how many lines were left out.

    It is the last one before the statistics, which start with "processed".
    """
    lines = [line for line in _text(log).splitlines() if line and not line.startswith("processed")]
    if not lines:
        return ""
    return f" (the verifier: '{lines[-1]}', {len(lines) - 1} lines before it)"


def _collect(obj: Pointer, shape: ObjectShape) -> LoadedSet:
    """Own a copy of each fd in the order of *shape*; libbpf closes its own with the object."""
    lib = library()
    fds = OwnedFds()
    described: list[FdDescription] = []
    ids: list[int] = []
    try:
        for program in shape.programs:
            found = lib.bpf_object__find_program_by_name(obj, program.name.encode())
            fds.add(_copy(lib.bpf_program__fd(found)))
            described.append(FdDescription(program.name, "program", program.type))
        for item in shape.maps:
            found = lib.bpf_object__find_map_by_name(obj, item.name.encode())
            fds.add(_copy(lib.bpf_map__fd(found)))
            described.append(FdDescription(item.name, "map", *item[1:]))
            ids.append(map_id(fds[-1].borrow()))
    except BaseException:
        fds.close()
        raise
    return LoadedSet(fds, tuple(described), tuple(ids))


def _copy(fd: int) -> int:
    # CLOEXEC from the start: nobody forks here, but a rule without exceptions is easier to check.
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, MIN_FD)
    except OSError as error:
        raise LibbpfError("cannot copy an fd", error.errno or 0) from error


def _hint(error: LibbpfError) -> str:
    match error.errno:
        case errno.EPERM:
            return "the helper lacks CAP_BPF, or a security module denies bpf(2)"
        case errno.EACCES:
            return "the kernel's verifier refused the program; CAP_PERFMON is needed, and Linux 5.8"
        case errno.ENFILE | errno.EMFILE:
            return "the helper has no file descriptors left: try again, or raise LimitNOFILE="
        case errno.ENOMEM:
            return "the helper's memory limit is reached: raise MemoryMax= in the unit"
    return "see the journal: journalctl -u bpferry-bpf"
