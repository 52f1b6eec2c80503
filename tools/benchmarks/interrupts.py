# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stop on Ctrl-C and the like between two measurements, and nowhere else.

If a signal handler raises an exception while a process is being started, nobody knows that process
and nobody ends it. A measurement takes less than a second, so there is no hurry.
"""

import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):  # noqa: N818 - an adjective says it all
    """A signal asked the bench to stop."""


class Interrupts:
    """Notes signals that ask to stop. One per process; programs that it starts do not get them."""

    def __init__(self) -> None:
        self._asked = False
        for number in SIGNALS:
            signal.signal(number, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True

    def check(self) -> None:
        """Raise Interrupted if there was such a signal."""
        if self._asked:
            raise Interrupted
