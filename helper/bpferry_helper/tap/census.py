# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which taps are alive, whose they are, and which have to be deleted.

A tap's alias says who asked for it. So the kernel's list of links is the ledger: it cannot be lost,
and it is right even after a crash. It is read as a whole when this process starts, and whenever
somebody asks to see it. In between, what was granted is remembered here. That can only be too much:
before anybody is refused because of it, the kernel is asked about the taps in question.

If the request named the MAC address of the card behind the tap, the alias has that too. Two cards
with the same address on one bridge get each other's packets, so the second one is refused. This
only catches mistakes: the holder of a tap can send from any address, whatever the request said. So
a tap without address-lock does not keep another user's with address-lock from being made.

Known hole: a tap counts for the user who asked for it as long as it exists, whoever holds it.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from bpferry_helper.errors import RequestError
from bpferry_helper.log import INFO, WARNING, log
from bpferry_helper.quota import Places
from bpferry_helper.tap.link_codec import Link
from bpferry_helper.tap.links import Links
from bpferry_helper.tap.marks import PREFIXES, Holder, OurTap, as_ours, ours_among
from bpferry_helper.tap.netlink import LinkError
from bpferry_wire.errors import Code

SETTLE_S: Final = 5.0
"""A tap is made in some milliseconds; a request that waits longer is refused, if necessary."""

LARGER_HINT: Final = (
    "stop a VM, delete a tap that stays (bpferry tap list), or ask for a larger limit"
)

LATER: Final = "try again later"


class Census:
    """Counts taps, and knows their cards' addresses. Safe to use from several threads."""

    def __init__(self, host: Links) -> None:
        """Read what is there, and sweep what an earlier process could not. Borrows *host*.

        Raises:
            LinkError: the kernel did not answer.
        """
        self._host = host
        self._places = Places("taps", LARGER_HINT, self._owners, self._strike_off_the_dead)
        self._lock = self._places.changed
        self._known: dict[int, Holder] = {}
        """By ifindex of each tap that may be alive: who asked for it."""
        self._claims: set[tuple[int, str]] = set()
        """Bridge and address of each tap that is being made."""
        self._delete_left(self.alive())

    def alive(self) -> list[OurTap]:
        """Ask the kernel for all taps that we granted, and remember them.

        Raises:
            LinkError: it did not answer.
        """
        with self._lock:
            return self._ask()

    def reserve(self, uid: int, per_user: int, in_total: int) -> AbstractContextManager[int]:
        """Reserve a place for one more tap of *uid* while it is being made; see ``Places``.

        Raises:
            RequestError: quota, if policy does not allow another; busy, if the kernel does not
                tell what is alive.
        """
        return self._places.reserve(uid, per_user, in_total)

    @contextmanager
    def claim(self, bridge: Link, holder: Holder, *, is_locked: bool) -> Iterator[None]:
        """Reserve the address of *holder*'s card on *bridge* while its tap is being made.

        *is_locked* says whether the tap is to have address-lock.

        Raises:
            RequestError: refused, if a tap on *bridge* has it; busy, if we cannot tell.
        """
        claim = (bridge.ifindex, holder.mac)
        with self._lock:
            # If two ask at once, the second waits for the outcome of the first.
            if not self._lock.wait_for(lambda: claim not in self._claims, SETTLE_S):
                raise RequestError(Code.BUSY, f"a tap for '{holder.mac}' is being made", LATER)
            self.check_address(bridge, holder, is_locked=is_locked)
            if holder.mac:
                self._claims.add(claim)
        try:
            yield
        finally:
            with self._lock:
                self._claims.discard(claim)
                self._lock.notify_all()

    def check_address(self, bridge: Link, holder: Holder, *, is_locked: bool) -> None:
        """Raise RequestError if another tap on *bridge* has the address of *holder*'s card."""
        with self._lock:
            same = [index for index, known in self._known.items() if known.mac == holder.mac]
            for ifindex in same if holder.mac else ():
                tap = self._ask_about(ifindex)
                if tap and tap.link.master == bridge.ifindex and tap.holder.mac == holder.mac:
                    is_own = tap.holder.uid == holder.uid
                    if is_own or not is_locked or self._is_locked(ifindex):
                        raise _refusal(bridge, holder, tap)

    def record(self, ifindex: int, holder: Holder, place: int) -> None:
        """Remember the tap *ifindex*, which was made in the reserved *place*."""
        with self._lock:
            self._known[ifindex] = holder
            self._places.give_up(place)

    def known_bridges(self) -> frozenset[int]:
        """Return the indexes of the bridges that have taps of ours; none if that cannot be told."""
        try:
            return frozenset(tap.link.master for tap in self.alive() if tap.link.master)
        except LinkError:
            return frozenset()

    def sweep(self) -> None:
        """Delete taps that were meant to go away with their last fd but were made persistent.

        The holder of a tap can make it persistent with TUNSETPERSIST and take it over with
        TUNSETOWNER, without a capability. Changing the name needs one, so the name decides.
        """
        try:
            self._delete_left(self.alive())
        except LinkError as error:
            log(WARNING, f"{error}, ignoring")

    def _delete_left(self, taps: list[OurTap]) -> None:
        for tap in taps:
            try:
                if not tap.was_created and tap.link.stays:
                    self._delete_unless_open(tap)
            except LinkError as error:
                log(WARNING, f"'{tap.link.name}': {error}, ignoring")

    def _delete_unless_open(self, tap: OurTap) -> None:
        if not self._host.open_queues(tap.link):
            self._host.delete(tap.link.ifindex)
            what = f"'{tap.link.name}', which {tap.holder.who} had made persistent and left"
            log(INFO, f"deleted {what}")

    def _owners(self) -> list[int]:
        return [holder.uid for holder in self._known.values()]

    def _strike_off_the_dead(self) -> None:
        # A tap that is still being made may be on the kernel's list already and would count twice.
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

    def _is_locked(self, ifindex: int) -> bool:
        try:
            return self._host.is_locked(ifindex)
        except LinkError as error:
            raise RequestError(Code.BUSY, str(error), LATER) from error

    def _ask(self) -> list[OurTap]:
        taps = ours_among(self._host.taps(PREFIXES))
        self._known = {tap.link.ifindex: tap.holder for tap in taps}
        return taps


def _refusal(bridge: Link, holder: Holder, tap: OurTap) -> RequestError:
    """Return the refusal for *holder*, whose card has the same address as the card of *tap*."""
    uid, name = tap.holder.uid, tap.link.name
    # What others call their VMs is theirs to tell.
    vm = f" (VM '{tap.holder.vm}')" if tap.holder.vm and uid == holder.uid else ""
    whose = "your own" if uid == holder.uid else f"uid {uid}'s"
    hint = (
        "give one of the two cards another MAC address, or its VM another name, if the address is "
        "made of that"
    )
    if uid == holder.uid and tap.was_created:
        hint += f"; or delete the tap: bpferry tap delete {name}"
    return RequestError(
        Code.REFUSED,
        f"cannot make a tap on '{bridge.name}' for '{holder.mac}': {whose} tap '{name}'{vm} there "
        "is for a card with that address",
        hint,
    )
