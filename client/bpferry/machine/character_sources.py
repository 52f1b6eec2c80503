# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether what character devices are to use is there: devices of the host, pipes, sockets.

QEMU opens all of these itself, and does not start without one. A socket to which it is to connect
again and again need not be there yet. Files that it writes to are with those of ``access``.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bpferry.domain.forms import called
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import Named, characters_of, named
from bpferry.errors import NotReady
from bpferry.machine.listening import is_bound
from bpferry.machine.paths import exists, explain_closed, is_socket
from bpferry.network.groups import explain_denied, explain_device

if TYPE_CHECKING:
    from bpferry.domain.model.characters import Character, Source
    from bpferry.domain.model.rngs import Rng

MISSING: Final = "correct the path, or connect the device"

START_FIRST: Final = "first start what the VM should connect to, or let QEMU try again: "


def find_missing_sources(machine: Machine) -> Iterator[NotReady]:
    """Yield what is missing or closed to this user; the errors' element is a key of the model."""
    told: set[str] = set()
    for device in _devices_of(machine):
        for source in device.parts("sources", device.value.sources):
            kind = getattr(device.value, "type", None)
            problem, fix = _problem_of(kind, source.value)
            # A console may be a serial port that the document has twice, as libvirt writes it.
            if problem and problem not in told:
                told.add(problem)
                yield NotReady(problem, fix, f"{source.key}.path")


def _devices_of(machine: Machine) -> "Iterator[Named[Character] | Named[Rng]]":
    """Yield everything that has a character device's sources."""
    yield from characters_of(machine)
    yield from named(machine.rngs, "rngs", "rng")


def _problem_of(kind: str | None, source: "Source") -> tuple[str, str]:
    """Return what is in the way of *source*, and what to do; nothing if nothing is."""
    path = source.path
    if not path:
        return "", ""
    if kind == "dev":
        return _device(path)
    if kind == "pipe":
        return _pipe(path)
    if kind == "unix" and source.mode != "bind" and not source.reconnect:
        return _socket(path)
    return "", ""


def _device(path: str) -> tuple[str, str]:
    what = f"cannot use the device '{path}'"
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - the path is text
    except OSError as error:
        cause, fix = explain_closed(path)
        return f"{what}: {cause or error.strerror}", fix or MISSING
    if not stat.S_ISCHR(mode):
        return f"{what}: it is not a character device", "use type 'file' to write to a file"
    if not os.access(path, os.R_OK | os.W_OK):
        cause, hint = explain_device(path, MISSING)
        return f"{what}: {cause}", hint
    return "", ""


def _pipe(path: str) -> tuple[str, str]:
    ends = [f"{path}.in", f"{path}.out"]
    if all(map(_is_open, ends)) or _is_open(path):
        return "", ""
    cause, fix = explain_closed(path)
    if cause:
        return f"cannot open the named pipe '{path}': {cause}", fix
    return (
        f"cannot open the named pipes '{ends[0]}' and '{ends[1]}'",
        f"make them: mkfifo '{ends[0]}' '{ends[1]}'",
    )


def _is_open(path: str) -> bool:
    return os.access(path, os.R_OK | os.W_OK)


def _socket(path: str) -> tuple[str, str]:
    from bpferry.domain.model.characters import Source  # noqa: PLC0415 - ``servers`` needs no such

    return why_not_connected(path, START_FIRST + called(Source, "reconnect"))


def why_not_connected(path: str, start_first: str) -> tuple[str, str]:
    """Return why QEMU could not connect to the socket *path*, and what to do; or nothing.

    Args:
        path: the socket's.
        start_first: what to do if nothing listens there.
    """
    what = f"cannot connect to '{path}'"
    cause, fix = explain_closed(path)
    if cause:
        return f"{what}: {cause}", fix
    if exists(path) and not is_socket(path):
        return f"{what}: it is not a socket", "correct the path"
    if not (exists(path) and is_bound(Path(path))):
        return f"{what}: nothing listens there", start_first
    if not os.access(path, os.W_OK):
        ask = "ask its owner to let you write to it"
        cause, fix = explain_denied(path, ask, ask)
        return f"{what}: {cause}", fix
    return "", ""
