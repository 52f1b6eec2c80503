# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM as it arrives from another host: QEMU waits, reads the stream, and runs when it may.

Until the source has said Run, the guest may go on there, so QEMU neither runs it (``-S``) nor takes
the locks of its images (``late-block-activate``).
"""

import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from bpferry.commandline.build import Built
from bpferry.errors import BpferryError, QemuError
from bpferry.machine.arrival import wait_until_read
from bpferry.machine.listening import make_folder
from bpferry.machine.migration.comparison import check_words
from bpferry.machine.migration.devices import gather
from bpferry.machine.migration.messages import Loaded, Offer, Ready, Run, Runs, Stream, Talk
from bpferry.machine.reporter import Reporter
from bpferry.machine.saved import Link, relevant_words
from bpferry.qemu.monitor import CommandRefused, Monitor

ARGUMENTS: Final = ("-incoming", "defer")

FD_NAME: Final = "arriving"

POLL_SECONDS: Final = 0.01
"""The guest stands still for as long as nobody notices that all of it is there."""

ANNOUNCE: Final = {"initial": 50, "max": 550, "rounds": 5, "step": 100}
"""Milliseconds between the packets that tell bridges where a card is now (AnnounceParameters of
qapi/net.json); these are QEMU's own defaults after a migration."""

FILE_MODE: Final = 0o600


class Receiving:
    """The VM of one offer. Implements ``Arrival``."""

    arguments = ARGUMENTS
    images_are_shared = True

    def __init__(
        self,
        offer: Offer,
        talk: Talk,
        stream_fd: int,
        *,
        warnings: tuple[str, ...],
        arrive: Callable[[], None],
        kept_by: str,
    ) -> None:
        """*stream_fd* is borrowed; *arrive* is called once the VM has left the source for good."""
        self._offer = offer
        self._talk = talk
        self._stream_fd = stream_fd
        self._warnings = warnings
        self._arrive = arrive
        self._kept_by = kept_by
        self.has_arrived = False

    @property
    def paused(self) -> bool:
        """Whether its user had paused it."""
        return self._offer.paused

    @property
    def links(self) -> Mapping[str, Link]:
        """How links of cards are, by card, if not as the description has them."""
        return self._offer.links

    @property
    def asleep(self) -> bool:
        """Whether its guest sleeps."""
        return self._offer.asleep

    def check_same(self, built: Built) -> None:
        """Raise NotReady if *built* is another VM than the one that was offered."""
        check_words(self._offer, relevant_words(built))

    async def receive(self, monitor: Monitor) -> None:
        """Return when the VM is read and the source has let go of it.

        Raises:
            BpferryError: one of the two cannot be.
        """
        devices = await gather(monitor, [card.id for card in self._offer.cards])
        ready = Ready(host=socket.gethostname(), devices=devices, warnings=self._warnings)
        await self._talk.tell(ready)
        await self._talk.hear(Stream)
        await self._read(monitor)
        await self._talk.tell(Loaded())
        await self._talk.hear(Run)

    async def _read(self, monitor: Monitor) -> None:
        if not self.paused:
            # One that does not run takes them at once: nothing would later.
            await set_capability(monitor, "late-block-activate")
        await monitor.give_fd(FD_NAME, self._stream_fd)
        try:
            await monitor.execute("migrate-incoming", {"uri": f"fd:{FD_NAME}"})
            await wait_until_read(monitor, POLL_SECONDS)
        except QemuError as error:
            raise QemuError(
                f"QEMU cannot read the VM: {error.message}", error.hint, error.evidence
            ) from error

    async def arrived(self, monitor: Monitor) -> None:
        """Tell bridges and the source that the VM is here, and let go of the connection."""
        await announce(monitor)
        self.has_arrived = True
        with contextlib.suppress(BpferryError):
            # If the source is gone, it has said all the same that the VM is ours.
            await self._talk.tell(Runs(pid=os.getpid(), kept_by=self._kept_by))
        self._arrive()


async def set_capability(monitor: Monitor, name: str) -> None:
    """Turn on what the migration of this QEMU can do; an old one may not have it."""
    state = {"capability": name, "state": True}
    with contextlib.suppress(CommandRefused):
        await monitor.execute("migrate-set-capabilities", {"capabilities": [state]})


async def announce(monitor: Monitor) -> None:
    """Let QEMU tell the bridges where the VM's addresses are now."""
    with contextlib.suppress(QemuError):
        await monitor.execute("announce-self", dict(ANNOUNCE))


def keep_description(offer: Offer, path: Path, reporter: Reporter) -> None:
    """Write the description of the VM to *path*, so that it can be started here again."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        make_folder(path.parent)
        fd = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(offer.description)
        half.replace(path)
    except (OSError, BpferryError) as error:
        why = getattr(error, "strerror", None) or error
        reporter.warn(f"cannot keep the VM's description in '{path}': {why}")
