# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether what character devices are to use is there: devices of the host, pipes, sockets.

QEMU opens all of these itself, and does not start without one. A socket to which it is to connect
again and again need not be there yet. Files that it writes to are with those of ``access``.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bpferry.domain.forms import called
from bpferry.domain.model.characters import Source
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import characters_of
from bpferry.errors import NotReady
from bpferry.machine.listening import is_bound
from bpferry.machine.paths import explain_closed, is_socket
from bpferry.network.groups import explain_device

MISSING: Final = "correct the path, or connect the device"

START_FIRST: Final = "first start what the VM should connect to, or let QEMU try again: "


def find_missing_sources(machine: Machine) -> Iterator[NotReady]:
    """Yield what is missing or closed to this user; the errors' element is a key of the model."""
    told: set[str] = set()
    for device in characters_of(machine):
        for source in device.parts("sources", device.value.sources):
            kind = getattr(device.value, "type", None)
            problem, fix = _problem_of(kind, source.value)
            # A console may be a serial port that the document has twice, as libvirt writes it.
            if problem and problem not in told:
                told.add(problem)
                yield NotReady(problem, fix, f"{source.key}.path")


def _problem_of(kind: str | None, source: Source) -> tuple[str, str]:
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
        return f"{what}: {error.strerror}", MISSING
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
    return (
        f"cannot open the named pipes '{ends[0]}' and '{ends[1]}'",
        f"make them: mkfifo '{ends[0]}' '{ends[1]}'",
    )


def _is_open(path: str) -> bool:
    return os.access(path, os.R_OK | os.W_OK)


def _socket(path: str) -> tuple[str, str]:
    if is_socket(path) and is_bound(Path(path)):
        return "", ""
    cause, fix = explain_closed(path)
    if cause:
        return f"cannot connect to '{path}': {cause}", fix
    return (
        f"cannot connect to '{path}': nothing listens there",
        START_FIRST + called(Source, "reconnect"),
    )
