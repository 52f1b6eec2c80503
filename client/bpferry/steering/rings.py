# SPDX-License-Identifier: LGPL-2.1-or-later
"""Packets through the rings of a card, counted from their indices.

Each queue of a card has two rings: one for packets to the guest (receive) and one for packets from
it (transmit). Each ring has two indices of 16 bits that only grow and wrap (virtio 1.3, 2.7):

    available   buffers that the guest has offered
    used        buffers that the host has filled (receive) or sent (transmit)

Two looks at an index tell how many buffers went through in between, as long as that is less than
half of 65,536: more is taken for a ring that began from zero, as when the guest restarts. So a
counter says when the next look is due. A transmitted packet is one buffer. A received one is one
too, unless it is larger than the guest's buffers: then it takes several.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

INDICES: Final = 1 << 16
"""Values of an index."""

SAFE: Final = INDICES // 4
"""How far an index may go between two looks if the rate stays as it is."""

FIRST_PAUSE_S: Final = 0.02
"""Before a rate is known: counts up to 1.6 million packets a second on one ring."""

LEAST_PAUSE_S: Final = 0.005

LONGEST_PAUSE_S: Final = 0.5
"""So that traffic may begin at once with 65,000 packets a second on one ring."""


class Direction(StrEnum):
    """Which way packets go, as the guest sees it."""

    RECEIVE = "receive"
    TRANSMIT = "transmit"


class Ring(NamedTuple):
    """One ring, at one moment."""

    queue: int
    direction: Direction
    size: int
    """How many buffers it can have; 0 if the guest's driver has not set it up."""
    used: int
    """The used index."""
    waiting: int | None
    """Buffers that are available and not used yet: room to receive, or packets that wait to be
    sent. None if it is not known."""

    @property
    def place(self) -> tuple[int, Direction]:
        """Which ring of the card it is."""
        return self.queue, self.direction


def passed(before: int, after: int) -> int:
    """Return how far an index went from *before* to *after*; from zero if it began once more."""
    difference = (after - before) % INDICES
    return difference if difference < INDICES // 2 else after


def waiting(available: int, used: int, size: int) -> int:
    """Return how many buffers are available and not used; both indices were not read at once."""
    difference = (available - used) % INDICES
    return min(difference, size) if difference < INDICES // 2 else 0


class Counter:
    """Adds up what went through all rings of a card."""

    def __init__(self) -> None:
        self.packets: dict[tuple[int, Direction], int] = {}
        """By ring, since the first look."""
        self.nanoseconds = 0
        """Between the first and the last look."""
        self._last: dict[tuple[int, Direction], Ring] = {}
        self._time_ns: int | None = None
        self._fastest: float | None = None
        """Packets a second of the fastest ring; None before the second look."""

    def look(self, rings: Iterable[Ring], time_ns: int) -> None:
        """Take the *rings* as they were at *time_ns*, of a clock that only goes forward."""
        elapsed = 0 if self._time_ns is None else max(time_ns - self._time_ns, 1)
        self._time_ns = time_ns
        self.nanoseconds += elapsed
        now = {ring.place: ring for ring in rings}
        most = 0
        for place, ring in now.items():
            before = self._last.get(place)
            went = 0 if before is None else passed(before.used, ring.used)
            self.packets[place] = self.packets.get(place, 0) + went
            most = max(most, went)
        self._last = now
        self._fastest = most * 1e9 / elapsed if elapsed else None

    def restart(self) -> None:
        """Begin to count from zero, at the last look."""
        self.packets = dict.fromkeys(self.packets, 0)
        self.nanoseconds = 0

    def rates(self) -> dict[tuple[int, Direction], float]:
        """Return packets a second by ring, over all the time since the first look."""
        if not self.nanoseconds:
            return dict.fromkeys(self.packets, 0.0)
        return {place: count * 1e9 / self.nanoseconds for place, count in self.packets.items()}

    def pause(self, left_s: float) -> float:
        """Return how long to wait before the next look, if there are *left_s* seconds to go."""
        if self._fastest is None:
            return min(left_s, FIRST_PAUSE_S)
        if not self._fastest:
            return min(left_s, LONGEST_PAUSE_S)
        return min(left_s, LONGEST_PAUSE_S, max(SAFE / self._fastest, LEAST_PAUSE_S))
