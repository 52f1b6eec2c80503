# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which taps are alive, whose they are, and what has to be swept away.

A tap's alias says who asked for it. So the kernel's list of links is the ledger: it cannot be lost,
and it cannot be wrong after a crash. It is read as a whole when this process starts, and whenever
somebody wants to see it. Between that, what was granted is remembered here, which can only be too
much: before anybody is refused for it, the kernel is asked about the taps in question.

Known hole: a tap counts for the user who asked for it as long as it is there, whoever holds it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from threading import Condition
from typing import Final, NamedTuple

from bpferry_helper.errors import RequestError
from bpferry_helper.log import INFO, WARNING, log
from bpferry_helper.quota import Full, find_full
from bpferry_helper.tap.links import Link, Links
from bpferry_helper.tap.netlink import LinkError
from bpferry_helper.tap.nursery import CREATED_PREFIX, GRANTED_PREFIX, SPARE_ALIAS
from bpferry_wire.errors import Code

PREFIXES: Final = (GRANTED_PREFIX, CREATED_PREFIX)

ALIAS: Final = re.compile(r"bpferry uid=(\d+) pid=(\d+) since=(\d+)")

SETTLE_S: Final = 5.0
"""A tap is made in some milliseconds; who is kept waiting for longer is refused, if need be."""

LARGER_HINT: Final = (
    "stop a VM, delete a tap that stays (bpferry tap list), or ask for a larger limit"
)

NOBODY: Final = -1
"""Whose a tap is that bears our prefix and was made by somebody else; it counts for all."""


class Holder(NamedTuple):
    """Who asked for a tap."""

    uid: int
    pid: int
    since_s: int
    """CLOCK_BOOTTIME."""


def write_alias(holder: Holder) -> str:
    """Return the alias of a tap of *holder*; ``ip link`` shows it."""
    return f"bpferry uid={holder.uid} pid={holder.pid} since={holder.since_s}"


def holder_of(link: Link) -> Holder:
    """Return who asked for the tap *link*."""
    found = ALIAS.fullmatch(link.alias)
    if found is None:
        return Holder(NOBODY, 0, 0)
    return Holder(int(found[1]), int(found[2]), int(found[3]))


class Census:
    """Counts taps. Safe to use from several threads."""

    def __init__(self, host: Links) -> None:
        """Read what is there, and sweep what an earlier process could not. Borrows *host*.

        Raises:
            LinkError: the kernel does not say.
        """
        self._host = host
        self._settled = Condition()
        self._places = count(1)
        self._pending: dict[int, int] = {}
        self._known: dict[int, int] = {}
        """Of each tap that may be alive, by its ifindex: whose it is."""
        self._delete_left(self.alive())

    def alive(self) -> list[Link]:
        """Ask the kernel for all taps that somebody has of us, and remember them.

        Raises:
            LinkError: it does not say.
        """
        with self._settled:
            return self._ask()

    @contextmanager
    def reserve(self, uid: int, per_user: int, in_total: int) -> Iterator[int]:
        """Hold a place for one more tap of *uid* while it is being made; yield its number.

        Raises:
            RequestError: quota, if policy does not allow one more; busy, if the kernel does not
                say what is alive.
        """
        with self._settled:
            self._check(uid, per_user, in_total)
            place = next(self._places)
            self._pending[place] = uid
        try:
            yield place
        finally:
            with self._settled:
                self._pending.pop(place, None)
                self._settled.notify_all()

    def record(self, ifindex: int, uid: int, place: int) -> None:
        """Remember the tap *ifindex* that was made in the reserved *place*."""
        with self._settled:
            self._pending.pop(place, None)
            self._known[ifindex] = uid
            self._settled.notify_all()

    def sweep(self) -> None:
        """Delete the taps that were to go with their last fd, and were made to stay.

        Whoever holds a tap can do that with TUNSETPERSIST, which needs no capability, and take the
        tap over with TUNSETOWNER; so the name decides, which needs one.
        """
        try:
            self._delete_left(self.alive())
        except LinkError as error:
            log(WARNING, f"{error}, ignoring")

    def _delete_left(self, taps: list[Link]) -> None:
        for tap in taps:
            if tap.name.startswith(GRANTED_PREFIX) and tap.stays and not tap.queues:
                self._host.delete(tap.ifindex)
                uid = holder_of(tap).uid
                log(INFO, f"deleted '{tap.name}', which uid {uid} had made persistent and left")

    def _check(self, uid: int, per_user: int, in_total: int) -> None:
        if not self._full(uid, per_user, in_total):
            return
        # A tap in the making may be on the kernel's list already, and would count twice.
        self._settled.wait_for(lambda: not self._pending, SETTLE_S)
        self._strike_off_the_dead()
        full = self._full(uid, per_user, in_total)
        if full:
            raise RequestError(Code.QUOTA, *full)

    def _full(self, uid: int, per_user: int, in_total: int) -> tuple[str, str] | None:
        """Return message and hint if there is no place for one more."""
        owners = list(self._known.values())
        match find_full(uid, owners, self._pending.values(), per_user, in_total):
            case Full.THE_USERS:
                held = owners.count(uid)
                return (
                    f"uid {uid} holds {held} taps, as many as policy allows ({per_user})",
                    LARGER_HINT,
                )
            case Full.ALL_TOGETHER:
                return (
                    f"all users together hold {len(owners)} taps, as many as policy allows",
                    "ask the administrator to raise [quota] taps-in-total",
                )
        return None

    def _strike_off_the_dead(self) -> None:
        try:
            self._ask()
        except LinkError as error:
            raise RequestError(Code.BUSY, str(error), "try again later") from error

    def _ask(self) -> list[Link]:
        taps = [tap for tap in self._host.taps(PREFIXES) if tap.alias != SPARE_ALIAS]
        self._known = {tap.ifindex: holder_of(tap).uid for tap in taps}
        return taps
