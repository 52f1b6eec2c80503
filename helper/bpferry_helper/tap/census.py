# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which taps are alive, whose they are, and what has to be swept away.

A tap's alias says who asked for it. So the kernel's list of links is the ledger: it cannot be lost,
and it cannot be wrong after a crash. It is read as a whole when this process starts, and whenever
somebody wants to see it. Between that, what was granted is remembered here, which can only be too
much: before anybody is refused for it, the kernel is asked about the taps in question.

The alias also has the MAC address of the card behind the tap, where the request named one. Two
cards with one address on one bridge get each other's packets, so the second one is refused. That is
for mistakes: who holds a tap may send from any address, whatever was said when it was made.

Known hole: a tap counts for the user who asked for it as long as it is there, whoever holds it.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from bpferry_helper.errors import RequestError
from bpferry_helper.log import INFO, WARNING, log
from bpferry_helper.quota import Places
from bpferry_helper.tap.links import Link, Links
from bpferry_helper.tap.marks import PREFIXES, Holder, OurTap, as_ours
from bpferry_helper.tap.netlink import LinkError
from bpferry_wire.errors import Code

SETTLE_S: Final = 5.0
"""A tap is made in some milliseconds; who is kept waiting for longer is refused, if need be."""

LARGER_HINT: Final = (
    "stop a VM, delete a tap that stays (bpferry tap list), or ask for a larger limit"
)

LATER: Final = "try again later"


class Census:
    """Counts taps, and knows their cards' addresses. Safe to use from several threads."""

    def __init__(self, host: Links) -> None:
        """Read what is there, and sweep what an earlier process could not. Borrows *host*.

        Raises:
            LinkError: the kernel does not say.
        """
        self._host = host
        self._places = Places("taps", LARGER_HINT, self._owners, self._strike_off_the_dead)
        self._lock = self._places.changed
        self._known: dict[int, Holder] = {}
        """Of each tap that may be alive, by its ifindex: who asked for it."""
        self._claims: set[tuple[int, str]] = set()
        """Bridges and addresses of the taps that are being made."""
        self._delete_left(self.alive())

    def alive(self) -> list[OurTap]:
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

    @contextmanager
    def claim(self, bridge: Link, holder: Holder) -> Iterator[None]:
        """Keep others from the address of *holder*'s card on *bridge* while its tap is being made.

        Raises:
            RequestError: refused, if a tap on *bridge* has it; busy, if that cannot be told.
        """
        claim = (bridge.ifindex, holder.mac)
        with self._lock:
            # Of two that ask at once, the second waits to see what becomes of the first.
            if not self._lock.wait_for(lambda: claim not in self._claims, SETTLE_S):
                raise RequestError(Code.BUSY, f"a tap for '{holder.mac}' is being made", LATER)
            self.check_address(bridge, holder)
            if holder.mac:
                self._claims.add(claim)
        try:
            yield
        finally:
            with self._lock:
                self._claims.discard(claim)
                self._lock.notify_all()

    def check_address(self, bridge: Link, holder: Holder) -> None:
        """Raise RequestError if another tap on *bridge* has the address of *holder*'s card."""
        with self._lock:
            same = [index for index, known in self._known.items() if known.mac == holder.mac]
            for ifindex in same if holder.mac else ():
                tap = self._ask_about(ifindex)
                if tap and tap.link.master == bridge.ifindex and tap.holder.mac == holder.mac:
                    raise _refusal(bridge, holder, tap)

    def record(self, ifindex: int, holder: Holder, place: int) -> None:
        """Remember the tap *ifindex* that was made in the reserved *place*."""
        with self._lock:
            self._known[ifindex] = holder
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

    def _delete_left(self, taps: list[OurTap]) -> None:
        for tap in taps:
            if not tap.was_created and tap.link.stays and not tap.link.queues:
                self._host.delete(tap.link.ifindex)
                what = f"'{tap.link.name}', which uid {tap.holder.uid} had made persistent and left"
                log(INFO, f"deleted {what}")

    def _owners(self) -> list[int]:
        return [holder.uid for holder in self._known.values()]

    def _strike_off_the_dead(self) -> None:
        # A tap in the making may be on the kernel's list already, and would count twice.
        self._places.wait_until_free(SETTLE_S)
        try:
            self._ask()
        except LinkError as error:
            raise RequestError(Code.BUSY, str(error), LATER) from error

    def _ask_about(self, ifindex: int) -> OurTap | None:
        try:
            link = self._host.by_index(ifindex)
            return as_ours(link) if link else None
        except LinkError as error:
            raise RequestError(Code.BUSY, str(error), LATER) from error

    def _ask(self) -> list[OurTap]:
        taps = [tap for link in self._host.taps(PREFIXES) if (tap := as_ours(link))]
        self._known = {tap.link.ifindex: tap.holder for tap in taps}
        return taps


def _refusal(bridge: Link, holder: Holder, tap: OurTap) -> RequestError:
    """Return what *holder* is told, whose card has the address that the card of *tap* has."""
    uid, name = tap.holder.uid, tap.link.name
    whose = "your own" if uid == holder.uid else f"uid {uid}'s"
    hint = (
        "give one of the two cards another MAC address, or its VM another name, if the address is "
        "made of that"
    )
    if uid == holder.uid and tap.was_created:
        hint += f"; or delete the tap: bpferry tap delete {name}"
    return RequestError(
        Code.REFUSED,
        f"cannot make a tap on '{bridge.name}' for '{holder.mac}': {whose} tap '{name}' there "
        "is for a card with that address",
        hint,
    )
