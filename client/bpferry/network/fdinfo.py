# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a BPF fd is, according to the kernel: /proc/self/fd and /proc/self/fdinfo.

Received fds are checked here before use, since QEMU does not check them: it starts happily with
/dev/null for a program or with two maps swapped, and fails or steers wrongly when the guest first
uses them. One thing cannot be seen without a privilege: that a program is bound to exactly these
maps. For that we trust the helper, whose maps are fresh each time.
"""

import fcntl
import os
from typing import Final

from bpferry.errors import HelperError
from bpferry_wire.fds import BorrowedFd
from bpferry_wire.messages import FdDescription
from bpferry_wire.objects import MapShape, ObjectShape, ProgramShape

KIND_BY_LINK: Final = {"anon_inode:bpf-prog": "program", "anon_inode:bpf-map": "map"}
"""Targets of /proc/self/fd/N. A file's target is a path, and begins with '/'."""

MAP_FIELDS: Final = {
    "map_type": "type",
    "key_size": "key_size",
    "value_size": "value_size",
    "max_entries": "entries",
    "map_flags": "flags",
}
"""Keys of a map's fdinfo (kernel/bpf/syscall.c, bpf_map_show_fdinfo), and ours."""


def read_description(fd: BorrowedFd, name: str) -> FdDescription:
    """Return what *fd* is; *name* is what the helper calls it.

    Raises:
        HelperError: it is neither a BPF program nor a BPF map that can be written.
    """
    try:
        # pathlib would take longer to import than all this takes.
        link = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115
        path = f"/proc/self/fdinfo/{fd}"
        with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123
            text = file.read()
    except OSError as error:
        raise HelperError(f"cannot look at the fd for '{name}': {error.strerror}") from error
    kind = KIND_BY_LINK.get(link)
    if kind is None:
        raise HelperError(f"the fd for '{name}' is not a BPF object but '{link}'")
    fields = dict(line.partition(":")[::2] for line in text.splitlines())
    if kind == "program":
        return FdDescription(name, kind, _number(fields, "prog_type", name))
    _check_writable(fd, fields, name)
    values = {ours: _number(fields, theirs, name) for theirs, ours in MAP_FIELDS.items()}
    return FdDescription(name, kind, **values)


def _number(fields: dict[str, str], key: str, name: str) -> int:
    try:
        return int(fields[key], 0)
    except (KeyError, ValueError) as error:
        raise HelperError(f"the kernel does not report the '{key}' of '{name}'") from error


def _check_writable(fd: BorrowedFd, fields: dict[str, str], name: str) -> None:
    """Raise HelperError if QEMU could not write the map through this fd."""
    access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    if access != os.O_RDWR or _number(fields, "frozen", name):
        raise HelperError(f"the map '{name}' is not writable")


def expected_by(shape: ObjectShape) -> tuple[FdDescription, ...]:
    """Return what the fds of an object of *shape* must be, in order."""
    return (
        *(_of_program(program) for program in shape.programs),
        *(_of_map(described) for described in shape.maps),
    )


def _of_program(shape: ProgramShape) -> FdDescription:
    return FdDescription(shape.name, "program", shape.type)


def _of_map(shape: MapShape) -> FdDescription:
    return FdDescription(
        shape.name,
        "map",
        shape.type,
        key_size=shape.key_size,
        value_size=shape.value_size,
        entries=shape.entries,
        flags=shape.flags,
    )
