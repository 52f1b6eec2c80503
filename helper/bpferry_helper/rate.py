# SPDX-License-Identifier: LGPL-2.1-or-later
"""Token buckets: per user, so many at once and then so many a second; and one for all together."""

import time
from typing import Final, NamedTuple

MAX_BUCKETS: Final = 4096
"""Users whose bucket is not full. Beyond this, the fullest buckets are dropped."""


class TokenBuckets:
    """Counts what each uid took recently. A bucket that has filled up again is dropped."""

    def __init__(self) -> None:
        self._buckets: dict[int, tuple[float, float]] = {}

    def take(self, uid: int, burst: int, per_second: int) -> float:
        """Take one token and return 0.0, or return the seconds until there will be one."""
        tokens, now = self._tokens(uid, burst, per_second)
        if tokens < 1:
            return (1 - tokens) / per_second
        self._buckets[uid] = (tokens - 1, now)
        if len(self._buckets) > MAX_BUCKETS:
            self._forget_fullest()
        return 0.0

    def wait_s(self, uid: int, burst: int, per_second: int) -> float:
        """Return the seconds until there will be a token, and take none."""
        return max(0.0, (1 - self._tokens(uid, burst, per_second)[0]) / per_second)

    def _tokens(self, uid: int, burst: int, per_second: int) -> tuple[float, float]:
        """Return how many tokens *uid* has now, and the time."""
        now = time.monotonic()
        tokens, then = self._buckets.get(uid, (float(burst), now))
        return min(float(burst), tokens + (now - then) * per_second), now

    def _forget_fullest(self) -> None:
        fullest = max(self._buckets, key=lambda uid: self._buckets[uid])
        del self._buckets[fullest]


class Pace(NamedTuple):
    """So many at once, then so many a second."""

    at_once: int
    per_second: int


BURST_S: Final = 4
"""How many seconds' worth of a pace for all users there may be at once."""


def pace_of_all(per_second: int) -> Pace:
    """Return the pace for all users together with so many a second."""
    return Pace(BURST_S * per_second, per_second)


ALL: Final = 0
"""The key of the one bucket that all users share. Not a uid: this bucket is in its own table."""


class FairPace:
    """A rate limit for all users together that does not affect users with few requests.

    Each user has a small rate of their own. Requests beyond that come out of the shared rate. So a
    flood uses up the shared rate, but not the other users' own.
    """

    def __init__(self, own: Pace, shared: Pace) -> None:
        self._own = own
        self._shared = shared
        self._own_buckets = TokenBuckets()
        self._shared_bucket = TokenBuckets()

    def take(self, uid: int) -> float:
        """Take one token for *uid* and return 0.0, or return the seconds until there may be one."""
        wait_s = self._own_buckets.take(uid, *self._own)
        return wait_s and min(wait_s, self._shared_bucket.take(ALL, *self._shared))

    def wait_s(self, uid: int) -> float:
        """Return the seconds until there may be one for *uid*, and take none."""
        wait_s = self._own_buckets.wait_s(uid, *self._own)
        return wait_s and min(wait_s, self._shared_bucket.wait_s(ALL, *self._shared))
