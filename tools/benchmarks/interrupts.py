# SPDX-License-Identifier: LGPL-2.1-or-later
"""Leave on Ctrl-C and the like between two measurements, and nowhere else.

An exception out of a signal handler may come while a process is being started: then nobody knows
that process, and nobody ends it. A measurement takes less than a second, so there is no hurry.
"""

import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):  # noqa: N818 - an adjective says it all
    """Somebody asked the bench to end."""


class Interrupts:
    """Notes the signals that ask to end. One for each process; what it starts does not get them."""

    def __init__(self) -> None:
        self._asked = False
        for number in SIGNALS:
            signal.signal(number, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True

    def check(self) -> None:
        """Raise Interrupted if somebody asked."""
        if self._asked:
            raise Interrupted
