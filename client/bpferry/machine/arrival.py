# SPDX-License-Identifier: LGPL-2.1-or-later
"""The interface for a VM that is not booted, but goes on: from a file, or from another host.

QEMU starts and waits (``-incoming defer``), and gets the stream by QMP, so that an error of the
stream is an answer and not a QEMU that has ended.
"""

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

from bpferry.commandline.build import Built
from bpferry.errors import QemuError
from bpferry.machine.saved import Link
from bpferry.qemu.monitor import Monitor


class Arrival(Protocol):
    """Where the VM comes from."""

    @property
    def arguments(self) -> tuple[str, ...]:
        """What QEMU is started with in addition."""

    @property
    def paused(self) -> bool:
        """Whether its user had paused it."""

    @property
    def links(self) -> Mapping[str, Link]:
        """How links of cards are, by card, if not as the description has them."""

    @property
    def asleep(self) -> bool:
        """Whether its guest slept."""

    @property
    def images_are_shared(self) -> bool:
        """Whether another QEMU, which lets go of them, has its images locked until then."""

    def check_same(self, built: Built) -> None:
        """Raise NotReady if *built*, with names for fds, is another VM."""

    async def receive(self, monitor: Monitor) -> None:
        """Let QEMU read the VM's state; afterwards the VM is paused.

        Raises:
            BpferryError: it cannot go on here.
        """

    async def arrived(self, monitor: Monitor) -> None:
        """Do what follows once the guest runs, or is paused as its user wants it."""


async def wait_until_read(monitor: Monitor, poll_seconds: float) -> None:
    """Wait until QEMU has read the stream, and ask for that every *poll_seconds*.

    There is an event, but only with a capability that old versions lack.

    Raises:
        QemuError: it does not fit.
    """
    status = ""
    while status != "completed":
        await asyncio.sleep(poll_seconds)
        answer = await monitor.execute("query-migrate")
        told = answer if isinstance(answer, dict) else {}
        status = str(told.get("status", ""))
        if status in FAILED:
            raise QemuError(str(told.get("error-desc", "QEMU does not say why")))


FAILED: Final = ("failed", "cancelled")
