# SPDX-License-Identifier: LGPL-2.1-or-later
"""A token bucket per user: so many at once, then so many a second."""

import time
from typing import Final

MAX_BUCKETS: Final = 4096
"""Users whose bucket is not full. Beyond this, the fullest buckets are dropped."""


class TokenBuckets:
    """Counts what each uid took recently. A bucket that has filled up again is dropped."""

    def __init__(self) -> None:
        self._buckets: dict[int, tuple[float, float]] = {}

    def take(self, uid: int, burst: int, per_second: int) -> float:
        """Take one token and return 0.0, or return the seconds until there will be one."""
        now = time.monotonic()
        tokens, then = self._buckets.get(uid, (float(burst), now))
        tokens = min(float(burst), tokens + (now - then) * per_second)
        if tokens < 1:
            return (1 - tokens) / per_second
        self._buckets[uid] = (tokens - 1, now)
        if len(self._buckets) > MAX_BUCKETS:
            self._forget_fullest()
        return 0.0

    def _forget_fullest(self) -> None:
        fullest = max(self._buckets, key=lambda uid: self._buckets[uid])
        del self._buckets[fullest]
