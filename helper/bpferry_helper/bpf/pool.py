# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sets that are loaded ahead, so that who asks for one need not wait for the verifier.

A set in the pool is nobody's: it counts in total, not for a user. It leaves the pool once, and does
not come back if anybody else may have seen it, so no two clients ever have the same maps.

How many are ready follows demand: as many as were granted within BURST_S, which is one VM's start,
until nobody has asked for FORGET_S. What is granted from the pool costs the pace of its user and of
all users, as a load does; what is loaded in its place costs nobody anything. So there are no more
loads than without a pool, but for those of sets that nobody comes for. A user who asks all the time
empties the pool. Then the others wait for a load, as they would without one.
"""

import time
from collections.abc import Callable
from threading import Lock
from typing import Final, NamedTuple

from bpferry_helper.bpf.loader import LoadedSet
from bpferry_helper.errors import RequestError
from bpferry_helper.log import INFO, WARNING, log
from bpferry_helper.policy.rules import Policy
from bpferry_wire.objects import KNOWN

BURST_S: Final = 5.0
"""The cards of one VM ask within milliseconds, or within a load for each if none is ready; eight
loads take 0.6 s, and on a busy host some seconds."""

FORGET_S: Final = 600.0
"""Twice as long as a helper stays that nobody asks. Eight sets are 344 KB of kernel memory."""

LOOK_S: Final = 60.0
"""How often to look whether the sets that are ready are still wanted."""

MAX_OBJECTS: Final = 8
"""Of which sets are ready at a time: one for each QEMU release that is in use."""


class Key(NamedTuple):
    """Which object: all sets of one are alike."""

    object_id: str
    digest: bytes

    def __str__(self) -> str:
        return f"'{self.object_id}' {self.digest.hex()[:16]}"


class Means(NamedTuple):
    """What the pool needs of others. Called by the worker that tends it, never by the loop."""

    load: Callable[[Key, Policy], LoadedSet]
    """Loads a set, or raises RequestError."""
    is_carried: Callable[[Key, Policy], bool]
    """Whether a QEMU that is installed now carries the object."""
    room: Callable[[Policy], int]
    """How many sets there may be beside those that users have."""


class _Demand:
    """How many sets of one object were granted, and when."""

    def __init__(self) -> None:
        self.last = 0.0
        self.most = 0
        """In one burst, within the last FORGET_S or longer."""
        self._most_at = 0.0
        self._burst = 0
        self._burst_until = 0.0

    def note(self, now: float) -> None:
        """Note that a set was granted."""
        if now > self._burst_until:
            self._burst, self._burst_until = 0, now + BURST_S
        self._burst += 1
        if self._burst >= self.most or now - self._most_at > FORGET_S:
            self.most, self._most_at = self._burst, now
        self.last = now


class Pool:
    """Sets that are ready. Owns them; safe to use from several threads."""

    def __init__(self, means: Means) -> None:
        """Load and check by *means*."""
        self._means = means
        self._lock = Lock()
        """Held for some microseconds only: the loop waits for it."""
        self._ready: dict[Key, list[LoadedSet]] = {}
        self._demand: dict[Key, _Demand] = {}
        """The object of the last grant comes last."""
        self._policy: Policy | None = None
        """Of the last grant."""

    def __len__(self) -> int:
        with self._lock:
            return self._count()

    def has(self, key: Key) -> bool:
        """Return whether a set is ready."""
        return bool(self._ready.get(key))

    def take(self, key: Key) -> LoadedSet | None:
        """Take a set out of the pool; the caller owns it. None if there is none."""
        with self._lock:
            ready = self._ready.get(key)
            return ready.pop() if ready else None

    def put(self, key: Key, loaded: LoadedSet) -> None:
        """Take ownership of *loaded*, which nobody else has or had."""
        with self._lock:
            self._ready.setdefault(key, []).append(loaded)

    def note(self, key: Key, policy: Policy) -> None:
        """Note that a set was granted, from the pool or not, under *policy*."""
        if key.object_id not in KNOWN:
            # Policy alone knows the object. Its maps may not begin empty, and not stay so.
            return
        with self._lock:
            demand = self._demand.pop(key, None) or _Demand()
            demand.note(time.monotonic())
            self._demand[key] = demand
            self._policy = policy
            if len(self._demand) > MAX_OBJECTS:
                del self._demand[next(iter(self._demand))]

    def keep_at_most(self, room: int) -> None:
        """Close sets until there are at most *room*."""
        with self._lock:
            closed = [self._pop_of_most() for _ in range(self._count() - max(0, room))]
        _close(closed)

    def tend(self) -> float | None:
        """Close what nobody wants, and load at most one set; for a worker with nothing to do.

        Return after how many seconds to do it again, or None if not before somebody asks.
        """
        policy = self._policy
        if policy is None:
            return None
        self._forget_unwanted(policy)
        room = min(policy.sets_ready, self._means.room(policy))
        self.keep_at_most(room)
        key = self._next_to_load(room, policy)
        if key is not None:
            self._load(key, policy)
        if self._next_to_load(room, policy) is not None:
            return 0.0
        return LOOK_S if self._demand else None

    def _load(self, key: Key, policy: Policy) -> None:
        try:
            loaded = self._means.load(key, policy)
        except RequestError as error:
            log(WARNING, f"cannot load a set of {key} ahead: {error}, ignoring")
            self._forget(key)
            return
        self.put(key, loaded)
        # Users may have taken the room meanwhile.
        self.keep_at_most(min(policy.sets_ready, self._means.room(policy)))

    def _next_to_load(self, room: int, policy: Policy) -> Key | None:
        """Return of which object to load a set: the one granted last that has too few ready."""
        with self._lock:
            # Each object has its share, so that who asks for one cannot crowd out the others.
            share = max(1, policy.sets_ready // max(1, len(self._demand)))
            over = any(len(sets) > share for sets in self._ready.values())
            if self._count() >= room and not (over and room > 0):
                return None
            for key, demand in reversed(self._demand.items()):
                if len(self._ready.get(key, ())) < min(demand.most, share):
                    return key
        return None

    def _count(self) -> int:
        return sum(map(len, self._ready.values()))

    def _pop_of_most(self) -> LoadedSet:
        """Take a set of the object that has most."""
        return max(self._ready.values(), key=len).pop()

    def _forget_unwanted(self, policy: Policy) -> None:
        with self._lock:
            asked_after = time.monotonic() - FORGET_S
            wanted = [key for key, demand in self._demand.items() if demand.last > asked_after]
            known = {*self._demand, *self._ready}
        for key in known.difference(wanted):
            self._forget(key)
        for key in wanted:
            if not self._means.is_carried(key, policy):
                log(INFO, f"no QEMU carries {key} any more: none of its sets is loaded ahead")
                self._forget(key)

    def _forget(self, key: Key) -> None:
        with self._lock:
            self._demand.pop(key, None)
            closed = self._ready.pop(key, [])
        _close(closed)


def _close(sets: list[LoadedSet]) -> None:
    for one in sets:
        one.fds.close()
