# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who has to wait before their request is served, and until when.

A flood of requests does not slow down a user who asks now and then: each user has a small rate of
their own, and only what is beyond that comes out of a rate that all share (``rate``). A request
over the rate is not refused. It waits here, and its connection is not read meanwhile, so at most
one request per connection waits.
"""

import time
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Final

from bpferry_helper.connected import Connected
from bpferry_helper.connection import Connection, State
from bpferry_helper.rate import FairPace, Pace

OWN_PACE: Final = Pace(at_once=32, per_second=4)
SHARED_PACE: Final = Pace(at_once=256, per_second=256)
"""Requests of each user, and what all users together may ask beyond that. A cheap request such as
hello takes 0.3 ms: 64 flooding users take a seventh of a CPU."""

OWN_LONG_PACE: Final = Pace(at_once=16, per_second=1)
SHARED_LONG_PACE: Final = Pace(at_once=16, per_second=16)
"""The same for lists of more than FEW_GROUPS groups: each takes a worker up to 10 ms."""


class Pacing:
    """The requests that wait until their users may ask again."""

    def __init__(self, connected: Connected) -> None:
        """Let connections among *connected* wait."""
        self._connected = connected
        self._pace = FairPace(OWN_PACE, SHARED_PACE)
        self._long_pace = FairPace(OWN_LONG_PACE, SHARED_LONG_PACE)
        self._waiting: list[tuple[float, int]] = []
        """When waiting requests may be served, and on which connections; a heap."""

    def may_ask(self, connection: Connection) -> bool:
        """Return whether the user of *connection* may ask now; if not, let it wait."""
        return self._may(connection, self._pace)

    def may_read_groups(self, connection: Connection) -> bool:
        """Return whether a long list of groups may be read now; if not, let *connection* wait."""
        return self._may(connection, self._long_pace)

    def waited_enough(self) -> Iterator[Connection]:
        """Yield the connections that have waited for long enough; they are read again."""
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            _, number = heappop(self._waiting)
            connection = self._connected.with_number(number)
            if connection is not None:
                self._connected.read_again(connection)
                yield connection

    def next_end(self) -> float | None:
        """Return when the first of them may be served; None if none waits."""
        return self._waiting[0][0] if self._waiting else None

    def _may(self, connection: Connection, pace: FairPace) -> bool:
        wait_s = pace.take(connection.peer.uid)
        if not wait_s:
            return True
        self._connected.stop_reading(connection, State.PACED)
        heappush(self._waiting, (time.monotonic() + wait_s, connection.number))
        return False
