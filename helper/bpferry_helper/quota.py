# SPDX-License-Identifier: LGPL-2.1-or-later
"""How many things a user may hold, and the places that are reserved while one more is made.

The same for sets (bpf/ledger) and for taps (tap/census), which keep what is held themselves. What
they know is an upper bound, since nobody tells the helper when a thing goes. Only when that bound
says no is the kernel asked, which keeps the usual grant quick.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from threading import Condition
from typing import Final

from bpferry_helper.errors import RequestError
from bpferry_wire.errors import Code


class Places:
    """The places of things that are being made. Safe to use from several threads.

    A thing that is made gives its place up in the same moment in which it begins to be held, or it
    would count twice or not at all. So both are under one lock, ``changed``, which is notified
    whenever a place is given up. Both functions that this is made with are called with it held.
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
            things: what is counted, as messages and the policy's [quota] call it.
            hint: what a user who may not have one more can do.
            owners: of each thing that may be alive, whose it is.
            recount: asks the kernel, so that *owners* names only what is alive.
        """
        self.changed: Final = Condition()
        self._things = things
        self._hint = hint
        self._owners = owners
        self._recount = recount
        self._numbers = count(1)
        self._reserved: dict[int, int] = {}
        """Of each place, for whom."""

    @contextmanager
    def reserve(self, uid: int, per_user: int, in_total: int) -> Iterator[int]:
        """Reserve a place for one more thing of *uid* while it is being made; yield its number.

        Args:
            uid: who asks.
            per_user: the most that one user may have.
            in_total: the most that all users may have together.

        Raises:
            RequestError: quota, if there is no place left.
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

    def give_up(self, place: int) -> None:
        """Give *place* up, unless that was done before. To be called with ``changed`` held."""
        self._reserved.pop(place, None)
        self.changed.notify_all()

    def wait_until_free(self, patience_s: float) -> None:
        """Wait until no place is reserved, but no longer than that. ``changed`` is let go of."""
        self.changed.wait_for(lambda: not self._reserved, patience_s)

    def _check(self, uid: int, per_user: int, in_total: int) -> None:
        if self._refusal(uid, per_user, in_total) is None:
            return
        self._recount()
        refusal = self._refusal(uid, per_user, in_total)
        if refusal is not None:
            raise refusal

    def _refusal(self, uid: int, per_user: int, in_total: int) -> RequestError | None:
        """Return what to raise if there is no place for one more."""
        owners, coming = self._owners(), list(self._reserved.values())
        held = owners.count(uid)
        if held + coming.count(uid) >= per_user:
            return RequestError(
                Code.QUOTA,
                f"uid {uid} holds {held} {self._things}, as many as policy allows ({per_user})",
                self._hint,
            )
        if len(owners) + len(coming) >= in_total:
            return RequestError(
                Code.QUOTA,
                f"all users together hold {len(owners)} {self._things}, as many as policy allows",
                f"ask the administrator to raise [quota] {self._things}-in-total",
            )
        return None
