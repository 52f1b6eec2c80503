# SPDX-License-Identifier: LGPL-2.1-or-later
"""Start a VM where it was saved: its file is opened before QEMU starts, and read by QEMU.

QEMU starts with ``-incoming defer``: it waits, and gets the file by QMP, so that an error of the
stream is an answer and not a QEMU that has ended.
"""

import asyncio
import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bpferry.commandline.build import Built
from bpferry.errors import BadInput, QemuError
from bpferry.machine.saved import (
    Header,
    check_complete,
    check_images,
    check_name,
    check_words,
    read_header,
    relevant_words,
    tell_to_use,
)
from bpferry.qemu.monitor import Monitor

ARGUMENTS: Final = ("-incoming", "defer")
POLL_SECONDS: Final = 0.05
"""How often QEMU is asked whether it has read the file. There is an event, but only with a
capability that old versions lack."""


GIVE: Final = "give the file that was given to 'bpferry save'"


@dataclass(frozen=True, slots=True)
class Incoming:
    """The file of a saved VM, open for reading."""

    path: str
    fd: int
    """Owned by ``open_saved``."""
    header: Header


@contextlib.contextmanager
def open_saved(path: str, vm_name: str) -> Iterator[Incoming]:
    """Open the file at *path*, in which the VM called *vm_name* was saved.

    Raises:
        BadInput: it cannot be read, or is something else.
        NotReady: the VM's disks have changed since.
    """
    try:
        # A FIFO would wait for somebody who writes.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise BadInput(f"cannot restore '{path}': {error.strerror}", GIVE) from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise BadInput(f"cannot restore '{path}': it is not a regular file", GIVE)
        header = read_header(fd, path)
        check_name(header, vm_name, path)
        check_complete(header, path)
        check_images(header, path)
        yield Incoming(path, fd, header)
    finally:
        os.close(fd)


def check_same(incoming: Incoming, built: Built) -> None:
    """Raise NotReady if *built*, with names for fds, is another VM than the one that was saved."""
    check_words(incoming.header, relevant_words(built), incoming.path)


async def receive(monitor: Monitor, incoming: Incoming) -> None:
    """Let QEMU read the VM's state; afterwards the VM is paused.

    Raises:
        QemuError: it does not fit.
    """
    try:
        await tell_to_use(monitor, "migrate-incoming", incoming.fd)
        reading = True
        while reading:
            await asyncio.sleep(POLL_SECONDS)
            reading = await _is_reading(monitor)
    except QemuError as error:
        header = incoming.header
        raise QemuError(
            f"cannot restore '{incoming.path}': {error.message}",
            f"it was saved by QEMU {header.version}; a VM can be restored with the same version, "
            "and mostly with a newer one",
            error.evidence,
        ) from error


async def _is_reading(monitor: Monitor) -> bool:
    answer = await monitor.execute("query-migrate")
    status = str(answer.get("status", "")) if isinstance(answer, dict) else ""
    if status == "failed":
        assert isinstance(answer, dict)  # noqa: S101 - it has a status
        raise QemuError(str(answer.get("error-desc", "QEMU does not say why")))
    return status != "completed"
