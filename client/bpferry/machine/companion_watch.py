# SPDX-License-Identifier: LGPL-2.1-or-later
"""The processes beside a QEMU that runs: their output is read, and the user is told of an end.

One that has ended before the guest runs ends the start. QEMU talks to swtpm and virtiofsd before
that, and ends at once if they do, but all that it says is that a connection has broken. It does not
talk to passt before the guest does, and would run a VM without a network.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from bpferry.domain.document import Document
from bpferry.errors import CompanionError
from bpferry.machine.companions import END_SECONDS, Running
from bpferry.machine.refusals import located
from bpferry.machine.reporter import Reporter

GRACE_SECONDS: Final = 2.0
"""For QEMU to end too: as it does so, it closes its connections first."""


class CompanionWatch:
    """Watches the companions of one VM for as long as they are *needed*."""

    def __init__(
        self,
        companions: Sequence[Running],
        document: Document,
        reporter: Reporter,
        needed: Callable[[], bool],
    ) -> None:
        self._companions = companions
        self._document = document
        self._reporter = reporter
        self._needed = needed
        self._readers: list[int] = []
        self._later: list[asyncio.TimerHandle] = []

    def start(self) -> None:
        """Begin, in the event loop that runs.

        Raises:
            CompanionError: one has ended already.
        """
        for running in self._companions:
            if running.child.wait(0) and self._needed():
                raise located(running.describe_end(), self._document)
        for running in self._companions:
            self._on_readable(running.child.output.fileno(), partial(self._drain, running))
            self._on_readable(running.child.pidfd, partial(self._ended, running))

    def stop(self) -> None:
        """Leave the event loop."""
        for fd in self._readers:
            asyncio.get_running_loop().remove_reader(fd)
        for timer in self._later:
            timer.cancel()

    def find_culprit(self) -> CompanionError | None:
        """Return what to tell of a companion because of which QEMU may have ended."""
        for running in self._companions:
            if running.has_failed(END_SECONDS):
                return located(running.describe_end(), self._document)
        return None

    def _on_readable(self, fd: int, act: Callable[[], object]) -> None:
        asyncio.get_running_loop().add_reader(fd, act)
        self._readers.append(fd)

    def _drain(self, running: Running) -> None:
        """Read what a companion wrote, so that a full pipe never stops it."""
        if running.child.read_output() == b"":
            asyncio.get_running_loop().remove_reader(running.child.output.fileno())

    def _ended(self, running: Running) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(running.child.pidfd)
        self._later.append(loop.call_later(GRACE_SECONDS, self._tell, running))

    def _tell(self, running: Running) -> None:
        if self._needed():
            error = running.describe_end()
            self._reporter.warn(error.message, error.hint)
