# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long a user waits for another tap after misusing one; longer each time.

Otherwise a tap that was deleted for it would be replaced at once, as often as policy's pace allows.
The user who asked for the tap counts, whoever held it then. Nothing is kept on disk: a helper that
was restarted has forgotten.
"""

import time
from threading import Lock
from typing import Final, NamedTuple

from bpferry_helper.errors import RequestError
from bpferry_helper.identity import Peer
from bpferry_wire.errors import Code

FIRST_S: Final = 10.0
LONGEST_S: Final = 3600.0
"""Each takes twice as long as the one before, up to this. As long after it, it is forgiven."""

MAX_KNOWN: Final = 1024
"""Users with a penalty. Beyond this, the one that ends first is forgotten."""

MAX_TAPS: Final = 64
"""For each of those users."""


class _Penalty(NamedTuple):
    until: float
    """time.monotonic()."""
    length_s: float
    why: str
    """What the holder of the last one did."""
    taps: tuple[int, ...]
    """The last ones that it was for."""


class Penalties:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._by_uid: dict[int, _Penalty] = {}

    def add(self, uid: int, tap: int, why: str) -> float:
        """Let *uid* wait because of what the holder of *tap*, an ifindex, did; return the seconds.

        They are 0 if that was known already: a tap may be misused many times until it is gone, and
        the kernel tells of each.
        """
        now = time.monotonic()
        with self._lock:
            last = self._by_uid.get(uid)
            taps = last.taps if last else ()
            if tap in taps:
                return 0.0
            counts = last is not None and now < last.until + LONGEST_S
            length_s = min(2 * last.length_s, LONGEST_S) if last and counts else FIRST_S
            self._by_uid[uid] = _Penalty(now + length_s, length_s, why, (*taps, tap)[-MAX_TAPS:])
            if len(self._by_uid) > MAX_KNOWN:
                del self._by_uid[min(self._by_uid, key=lambda known: self._by_uid[known].until)]
        return length_s

    def check(self, peer: Peer) -> None:
        """Raise RequestError, refused, if *peer* has to wait."""
        with self._lock:
            penalty = self._by_uid.get(peer.uid)
        left_s = penalty.until - time.monotonic() if penalty else 0.0
        if penalty and left_s > 0:
            raise RequestError(
                Code.REFUSED,
                f"{peer.who} may not have another tap yet: a tap of theirs was deleted because its "
                f"holder {penalty.why}",
                f"try again in {left_s:.0f} s; the journal of bpferry-tap names the tap",
            )
