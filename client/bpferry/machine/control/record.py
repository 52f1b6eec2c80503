# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the user of a VM was told, for those who ask later."""

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Final

from bpferry.commandline.parts import Endpoint
from bpferry.machine.reporter import Reporter
from bpferry.steering.view import describe_fallback

if TYPE_CHECKING:
    from bpferry.steering.maps import Steering

MAX_WARNINGS: Final = 16
"""The last ones; a VM that runs for months may have any number."""


class Record:
    """A reporter that passes everything on and remembers what lasts."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.warnings: deque[str] = deque(maxlen=MAX_WARNINGS)
        self.steering: dict[str, Steering] = {}
        """What came into force last, by card."""
        self.fallbacks: tuple[str, ...] = ()
        """The last line of QEMU's that contradicts the maps, if there was one."""
        self.endpoints: list[Endpoint] = []
        """Where somebody can connect."""

    def progress(self, text: str) -> None:
        """Pass it on."""
        self._reporter.progress(text)

    def note(self, text: str) -> None:
        """Pass it on."""
        self._reporter.note(text)

    def warn(self, text: str, hint: str = "") -> None:
        """Remember the text, and pass it on."""
        self.warnings.append(text)
        self._reporter.warn(text, hint)

    def withdraw(self, text: str) -> None:
        """Forget the warning *text*, which is not true any more; the log still has it."""
        with contextlib.suppress(ValueError):
            self.warnings.remove(text)

    def qemu_said(self, line: str) -> None:
        """Pass it on, and remember it if it is about the steering."""
        if describe_fallback(line) is not None:
            self.fallbacks = (line,)
        self._reporter.qemu_said(line)

    def steering_changed(self, card_id: str, steering: "Steering") -> None:
        """Remember it, and pass it on."""
        self.steering[card_id] = steering
        self._reporter.steering_changed(card_id, steering)

    def reachable(self, endpoint: Endpoint) -> None:
        """Remember it, and pass it on."""
        self.endpoints.append(endpoint)
        self._reporter.reachable(endpoint)
