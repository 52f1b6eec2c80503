# SPDX-License-Identifier: LGPL-2.1-or-later
"""How many things a user may hold, and the places reserved while another is being made.

Used for sets (bpf/ledger) and for taps (tap/census), which themselves record what is held. What
they know is an upper bound, since nobody tells the helper when a thing goes away. The kernel is
asked only if that bound is reached, which keeps the usual grant quick.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from threading import Condition
from typing import Final

from bpferry_helper.errors import RequestError
from bpferry_wire.errors import Code


class Places:
    """Places for things that are being made. Safe to use from several threads.

    A place must be given up at the same moment as its thing is recorded, or the thing would count
    twice or not at all. So one lock, ``changed``, covers both; it is notified whenever a place is
    given up. ``owners`` and ``recount`` are called with it held.
    """

    def __init__(
        self,
        things: str,
        hint: str,
        owners: Callable[[], Sequence[int]],
        recount: Callable[[], None],
    ) -> None:
        """Count *things* ("sets", "taps").

        Args:
            things: what is counted, in the words of messages and of the policy's [quota].
            hint: what a user at the limit can do.
            owners: returns the owner of each thing that may be alive.
            recount: asks the kernel, so that *owners* returns only what is alive.
        """
        self.changed: Final = Condition()
        self._things = things
        self.hint = hint
        """What a user can do who may not have another; may be changed."""
        self._owners = owners
        self._recount = recount
        self._numbers = count(1)
        self._reserved: dict[int, int] = {}
        """By place: the uid it is reserved for."""

    @contextmanager
    def reserve(self, uid: int, per_user: int, in_total: int) -> Iterator[int]:
        """Reserve a place for another thing of *uid* while it is being made; yield its number.

        Args:
            uid: who asks.
            per_user: the most that one user may have.
            in_total: the most that all users together may have.

        Raises:
            RequestError: quota, if no place is left.
        """
        with self.changed:
            self._check(uid, per_user, in_total)
            place = next(self._numbers)
            self._reserved[place] = uid
        try:
            yield place
        finally:
            with self.changed:
                self.give_up(place)

    def coming(self, uid: int | None = None) -> int:
        """Return how many are being made, or made for *uid*. Call with ``changed`` held."""
        return len(self._reserved) if uid is None else [*self._reserved.values()].count(uid)

    def give_up(self, place: int) -> None:
        """Give up *place*, unless that was done already. Call with ``changed`` held."""
        self._reserved.pop(place, None)
        self.changed.notify_all()

    def wait_until_free(self, patience_s: float) -> None:
        """Wait up to *patience_s* until no place is reserved. Releases ``changed`` meanwhile."""
        self.changed.wait_for(lambda: not self._reserved, patience_s)

    def _check(self, uid: int, per_user: int, in_total: int) -> None:
        if self._refusal(uid, per_user, in_total) is None:
            return
        self._recount()
        refusal = self._refusal(uid, per_user, in_total)
        if refusal is not None:
            raise refusal

    def _refusal(self, uid: int, per_user: int, in_total: int) -> RequestError | None:
        """Return what to raise if there is no place for another."""
        owners, coming = self._owners(), list(self._reserved.values())
        held = owners.count(uid)
        if held + coming.count(uid) >= per_user:
            return RequestError(
                Code.QUOTA,
                f"uid {uid} holds {held} {self._things}, as many as policy allows ({per_user})",
                self.hint,
            )
        if len(owners) + len(coming) >= in_total:
            return RequestError(
                Code.QUOTA,
                f"all users together hold {len(owners)} {self._things}, as many as policy allows",
                f"ask the administrator to raise [quota] {self._things}-in-total",
            )
        return None
