# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which taps are alive, whose they are, and what has to be swept away.

A tap's alias says who asked for it. So the kernel's list of links is the ledger: it cannot be lost,
and it cannot be wrong after a crash. It is read as a whole when this process starts, and whenever
somebody wants to see it. Between that, what was granted is remembered here, which can only be too
much: before anybody is refused for it, the kernel is asked about the taps in question.

Known hole: a tap counts for the user who asked for it as long as it is there, whoever holds it.
"""

import re
from contextlib import AbstractContextManager
from typing import Final, NamedTuple

from bpferry_helper.errors import RequestError
from bpferry_helper.log import INFO, WARNING, log
from bpferry_helper.quota import Places
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
"""The owner of a tap that has our prefix and was made by somebody else; it counts for all."""


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
        self._places = Places("taps", LARGER_HINT, self._owners, self._strike_off_the_dead)
        self._lock = self._places.changed
        self._known: dict[int, int] = {}
        """Of each tap that may be alive, by its ifindex: whose it is."""
        self._delete_left(self.alive())

    def alive(self) -> list[Link]:
        """Ask the kernel for all taps that somebody has of us, and remember them.

        Raises:
            LinkError: it does not say.
        """
        with self._lock:
            return self._ask()

    def reserve(self, uid: int, per_user: int, in_total: int) -> AbstractContextManager[int]:
        """Reserve a place for one more tap of *uid* while it is being made; see ``Places``.

        Raises:
            RequestError: quota, if policy does not allow one more; busy, if the kernel does not
                say what is alive.
        """
        return self._places.reserve(uid, per_user, in_total)

    def record(self, ifindex: int, uid: int, place: int) -> None:
        """Remember the tap *ifindex* that was made in the reserved *place*."""
        with self._lock:
            self._known[ifindex] = uid
            self._places.give_up(place)

    def sweep(self) -> None:
        """Delete the taps that were to go with their last fd, and were made to stay.

        Who holds a tap can do that with TUNSETPERSIST, which needs no capability, and take the
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

    def _owners(self) -> list[int]:
        return list(self._known.values())

    def _strike_off_the_dead(self) -> None:
        # A tap in the making may be on the kernel's list already, and would count twice.
        self._places.wait_until_free(SETTLE_S)
        try:
            self._ask()
        except LinkError as error:
            raise RequestError(Code.BUSY, str(error), "try again later") from error

    def _ask(self) -> list[Link]:
        taps = [tap for tap in self._host.taps(PREFIXES) if tap.alias != SPARE_ALIAS]
        self._known = {tap.ifindex: holder_of(tap).uid for tap in taps}
        return taps
