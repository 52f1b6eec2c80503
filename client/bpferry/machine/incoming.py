# SPDX-License-Identifier: LGPL-2.1-or-later
"""Start a VM where it was saved: its file is opened before QEMU starts, and read by QEMU."""

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct

from bpferry.commandline.build import Built
from bpferry.errors import BadInput, QemuError
from bpferry.machine.arrival import wait_until_read
from bpferry.machine.saved import (
    Header,
    Link,
    check_complete,
    check_images,
    check_name,
    check_words,
    read_header,
    relevant_words,
    tell_to_use,
)
from bpferry.qemu.monitor import Monitor
from bpferry_wire.fds import OwnedFd

ARGUMENTS: Final = ("-incoming", "defer")
POLL_SECONDS: Final = 0.05
"""How often QEMU is asked whether it has read the file."""


GIVE: Final = "give the file that was given to 'bpferry save'"


class Incoming(Struct, frozen=True):
    """The file of a saved VM, open for reading. Implements ``Arrival``."""

    path: str
    fd: OwnedFd
    """Closed by ``open_saved``, or as soon as QEMU has read it."""
    header: Header

    @property
    def arguments(self) -> tuple[str, ...]:
        """What QEMU is started with in addition."""
        return ARGUMENTS

    @property
    def paused(self) -> bool:
        """Whether its user had paused it."""
        return self.header.paused

    @property
    def links(self) -> Mapping[str, Link]:
        """How links of cards were, by card, if not as the description has them."""
        return self.header.links

    @property
    def asleep(self) -> bool:
        """Whether its guest slept."""
        return self.header.asleep

    @property
    def images_are_shared(self) -> bool:
        """No: the QEMU that saved the VM has ended."""
        return False

    def check_same(self, built: Built) -> None:
        """Raise NotReady if *built*, with names for fds, is another VM than was saved."""
        check_words(self.header, relevant_words(built), self.path)

    async def receive(self, monitor: Monitor) -> None:
        """Let QEMU read the VM's state; afterwards the VM is paused.

        Raises:
            QemuError: it does not fit.
        """
        try:
            await tell_to_use(monitor, "migrate-incoming", self.fd.borrow())
            await wait_until_read(monitor, POLL_SECONDS)
        except QemuError as error:
            raise QemuError(
                f"cannot restore '{self.path}': {error.message}",
                f"it was saved by QEMU {self.header.version}; a VM can be restored with the same "
                "version, and mostly with a newer one",
                error.evidence,
            ) from error

    async def arrived(self, monitor: Monitor) -> None:  # noqa: ARG002 - as ``Arrival`` has it
        """Close the file, so that its space is free as soon as its user deletes it."""
        self.fd.close()


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
    with OwnedFd(fd) as owned:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise BadInput(f"cannot restore '{path}': it is not a regular file", GIVE)
        header = read_header(fd, path)
        check_name(header, vm_name, path)
        check_complete(header, path)
        check_images(header, path)
        yield Incoming(path, owned, header)
