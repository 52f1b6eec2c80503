# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who has to wait before their request is served, and until when.

A flood of requests does not slow down a user who asks now and then: each user has a small rate of
their own, and only what is beyond that comes out of a rate that all share (``rate``). A request
over the rate is not refused. It waits here, and its connection is not read meanwhile, so at most
one request per connection waits.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from bpferry_helper.connected import Connected
from bpferry_helper.connection import Connection, State
from bpferry_helper.rate import FairPace, Pace

OWN_PACE: Final = Pace(at_once=32, per_second=12)
SHARED_PACE: Final = Pace(at_once=256, per_second=256)
"""Requests of each user, and what all users together may ask beyond that. A cheap request such as
hello takes 0.3 ms: 64 flooding users take a third of a CPU."""

OWN_LONG_PACE: Final = Pace(at_once=16, per_second=1)
SHARED_LONG_PACE: Final = Pace(at_once=16, per_second=16)
"""The same for lists of more than FEW_GROUPS groups: each takes a worker up to 10 ms."""


NEVER: Final = float("inf")


class Pacing:
    """The requests that wait until their users may ask again."""

    def __init__(self, connected: Connected) -> None:
        """Let connections among *connected* wait."""
        self._connected = connected
        self._asking = _Line(FairPace(OWN_PACE, SHARED_PACE), self._is_open)
        self._reading = _Line(FairPace(OWN_LONG_PACE, SHARED_LONG_PACE), self._is_open)

    def may_ask(self, connection: Connection) -> bool:
        """Return whether the user of *connection* may ask now; if not, let it wait."""
        return self._may(connection, self._asking)

    def may_read_groups(self, connection: Connection) -> bool:
        """Return whether a long list of groups may be read now; if not, let *connection* wait."""
        return self._may(connection, self._reading)

    def may_ask_now(self) -> Iterator[Connection]:
        """Yield the connections whose users may ask by now; they are read again."""
        return self._again(self._asking)

    def may_read_groups_now(self) -> Iterator[Connection]:
        """Yield the connections whose long lists of groups may be read by now."""
        return self._again(self._reading)

    def next_end(self) -> float:
        """Return when the first of them may be served; NEVER if none waits."""
        return min(self._asking.next_at, self._reading.next_at)

    def _is_open(self, number: int) -> bool:
        return self._connected.with_number(number) is not None

    def _may(self, connection: Connection, line: "_Line") -> bool:
        if line.lets_pass(connection.peer.uid, connection.number):
            return True
        self._connected.stop_reading(connection, State.PACED)
        return False

    def _again(self, line: "_Line") -> Iterator[Connection]:
        for number in line.let_go():
            connection = self._connected.with_number(number)
            if connection is not None and self._connected.read_again(connection):
                yield connection


class _Line:
    """Those who wait for one pace. Users take turns, and nobody is looked at in vain.

    If all who wait tried again whenever there may be a token, a thousand would do so for each one.
    """

    def __init__(self, pace: FairPace, is_open: Callable[[int], bool]) -> None:
        self._pace = pace
        self._is_open = is_open
        self._waiting: dict[int, deque[int]] = {}
        """By uid, the one whose turn it is first: numbers of connections."""
        self.next_at = NEVER
        """When the first of them may go."""

    def lets_pass(self, uid: int, number: int) -> bool:
        """Return whether the connection *number* of *uid* may go on; if not, it waits."""
        if uid not in self._waiting and not self._pace.take(uid):
            return True
        self._waiting.setdefault(uid, deque()).append(number)
        self.next_at = min(self.next_at, time.monotonic() + self._pace.wait_s(uid))
        return False

    def let_go(self) -> list[int]:
        """Return the connections that may go on now."""
        if time.monotonic() < self.next_at:
            return []
        gone: list[int] = []
        before = -1
        while len(gone) > before:
            before = len(gone)
            waiting = [uid for uid in list(self._waiting) if self._still_waits(uid)]
            gone += [self._pop(uid) for uid in waiting if not self._pace.take(uid)]
        waits = (self._pace.wait_s(uid) for uid in self._waiting)
        self.next_at = time.monotonic() + min(waits, default=NEVER)
        return gone

    def _still_waits(self, uid: int) -> bool:
        """Forget connections of *uid* that were closed: they need no token. Return if one waits."""
        numbers = self._waiting[uid]
        while numbers and not self._is_open(numbers[0]):
            numbers.popleft()
        if not numbers:
            del self._waiting[uid]
        return bool(numbers)

    def _pop(self, uid: int) -> int:
        """Take the first connection of *uid*, whose next turn is after all others'."""
        numbers = self._waiting.pop(uid)
        number = numbers.popleft()
        if numbers:
            self._waiting[uid] = numbers
        return number
