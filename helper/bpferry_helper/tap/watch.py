# SPDX-License-Identifier: LGPL-2.1-or-later
"""Watches that no tap takes another's address, while a port with address-lock is alive.

The holder of a tap's fd can give the tap any address (SIOCSIFHWADDR), without a capability, and no
kernel setting prevents it. The bridge then treats the address as the tap's own: what the host sends
to it goes to that tap, what others send to it ends up at the host, and the entry that lets the
rightful owner of the address send is gone. So this module gets all link changes from the kernel. It
restores the address of a tap that has changed, deletes the tap, and makes the owner's entry again.

The holder can also add queues to a tap with several, up to 256, each of which may hold 34 MiB of
kernel memory; policy counts those that were asked for. A tap with more is deleted, too: at once
where links are watched, and otherwise when the sweeper looks.

And the holder can change the tap's offloads all the time. The kernel tells of each change, and what
it tells of others would be late or lost. So a tap whose user causes too many messages is deleted.

The address of a tap follows from its name (marks), so nothing has to be remembered. The netlink
socket for this is the second one in the socket unit. systemd holds it, and starts the helper when a
message arrives: if the helper is killed, the next link change brings it back.
"""

import errno
import select
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from threading import Lock, Thread
from typing import Final

from bpferry_helper.identity import Peer
from bpferry_helper.log import WARNING, log
from bpferry_helper.tap import claims
from bpferry_helper.tap.link_codec import AF_BRIDGE, RTM_DELLINK, RTM_NEWLINK, index_of, read_link
from bpferry_helper.tap.links import GONE, Links
from bpferry_helper.tap.marks import PREFIXES, OurTap, as_ours, ours_among, own_address
from bpferry_helper.tap.netlink import HEADER, RECEIVE_BYTES, LinkError, messages_in
from bpferry_helper.tap.penalties import Penalties

# linux/socket.h, linux/netlink.h, linux/rtnetlink.h
SOL_NETLINK: Final = 270
NETLINK_ADD_MEMBERSHIP: Final = 1
NETLINK_DROP_MEMBERSHIP: Final = 2
RTNLGRP_LINK: Final = 1

FAULT_PAUSE_S: Final = 1.0
"""After an unexpected error, so that a permanent one does not fill the journal."""

MOST_MESSAGES: Final = 1000
"""In a second, about one user's taps. A tap that is made or that a VM starts with has some dozens;
some ten thousand are what this process can read."""

SO_RCVBUFFORCE: Final = 33
"""asm-generic/socket.h: beyond net.core.rmem_max, with CAP_NET_ADMIN."""

BUFFER_BYTES: Final = 4 << 20
"""Of messages that wait: so many that they are read in some tenths of a second."""

MARKS: Final = tuple(prefix.encode() for prefix in PREFIXES)


class AddressWatch:
    """Keeps each tap at its own address and number of queues. Safe to use from several threads."""

    def __init__(
        self, sock: socket.socket, host: Links, penalties: Penalties, name: Callable[[int], str]
    ) -> None:
        """Borrow *sock*, a NETLINK_ROUTE socket of the host's namespace, and the *host*'s links.

        *name* returns the name of a uid as far as it is known.

        Raises:
            LinkError: the kernel did not say which taps there are.
        """
        self._sock = sock
        self._host = host
        self._penalties = penalties
        self._name = name
        self._lock = Lock()
        self._cards: dict[int, str] = {}
        """By ifindex of each tap with address-lock that may be alive: its card's address."""
        self._is_lost = False
        """Messages were lost, and not all taps have been looked at since."""
        self._counted_since = 0.0
        self._messages: Counter[int] = Counter()
        """By uid, within this second."""
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        for tap in ours_among(self._host.taps(PREFIXES)):
            try:
                if tap.holder.mac and host.is_locked(tap.link.ifindex):
                    self._cards[tap.link.ifindex] = tap.holder.mac
            except LinkError as error:
                # What has gone since it was listed needs no watch.
                if error.errno not in GONE:
                    raise
        self._set_membership(wanted=bool(self._cards))
        if self._cards:
            self._check_all()
        Thread(target=self._watch_forever, name="watch", daemon=True).start()

    @property
    def is_needed(self) -> bool:
        """Whether a tap with address-lock may be alive."""
        return bool(self._cards)

    def guard(self, index: int, card: str) -> None:
        """Keep the address *card* for the tap *index*, as long as that is there.

        Raises:
            LinkError: that is not possible.
        """
        with self._lock:
            if not self._cards:
                self._set_membership(wanted=True)
                self._check_all()
            self._cards[index] = card

    def look(self) -> None:
        """Delete taps with more queues than they were made with, also where nothing is watched."""
        with self._lock:
            _try(self._check_all_queues)

    def _check_all_queues(self) -> None:
        for tap in ours_among(self._host.taps(PREFIXES)):
            self._check_queues(tap)

    def _set_membership(self, *, wanted: bool) -> None:
        option = NETLINK_ADD_MEMBERSHIP if wanted else NETLINK_DROP_MEMBERSHIP
        try:
            self._sock.setsockopt(SOL_NETLINK, option, RTNLGRP_LINK)
        except OSError as error:
            raise LinkError("cannot watch the taps' addresses", error.errno or errno.EIO) from error

    def _watch_forever(self) -> None:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        while True:
            try:
                data, sender = self._sock.recvfrom(RECEIVE_BYTES, socket.MSG_DONTWAIT)
                if sender[0] == 0:
                    self._read(data)
            except BlockingIOError:
                if self._is_lost:
                    self._look_again()
                poll.poll(FAULT_PAUSE_S * 1000 if self._is_lost else None)
            except Exception as error:  # noqa: BLE001 - whatever it is, the watch has to go on
                self._recover(error)

    def _recover(self, error: Exception) -> None:
        """Look at all taps, now or later, since *error* means that something was lost."""
        if isinstance(error, OSError) and error.errno == errno.ENOBUFS:
            # Until all that waits is read, the kernel drops everything, without another error
            # (NETLINK_S_CONGESTED, net/netlink/af_netlink.c).
            self._is_lost = True
        else:
            log(WARNING, f"while the taps' addresses were watched: {error!r}; looking at all taps")
            time.sleep(FAULT_PAUSE_S)
            self._look_again()

    def _look_again(self) -> None:
        with self._lock:
            _try(self._forget_the_gone)
            self._is_lost = not _try(self._check_all)

    def _forget_the_gone(self) -> None:
        there = {link.ifindex for link in self._host.taps(PREFIXES)}
        for index in self._cards.keys() - there:
            self._forget(index)

    def _read(self, data: bytes) -> None:
        """Act on what the kernel told of links; most of it is not about a tap of ours."""
        if not any(mark in data for mark in MARKS):
            return
        for kind, _, _, raw in messages_in(data):
            # The bridge tells of its ports too; that a tap left one does not mean that it is gone.
            if raw[HEADER.size] == AF_BRIDGE:
                continue
            with self._lock:
                if kind == RTM_DELLINK:
                    self._forget(index_of(raw))
                elif kind == RTM_NEWLINK:
                    tap = as_ours(read_link(raw))
                    if tap is not None and self._cards:
                        self._check(tap)
                        self._count(tap)

    def _count(self, tap: OurTap) -> None:
        """Delete *tap* if its user's taps have caused too many messages."""
        uid, now = tap.holder.uid, time.monotonic()
        if now - self._counted_since >= 1:
            self._counted_since = now
            self._messages.clear()
        self._messages[uid] += 1
        if self._messages[uid] % MOST_MESSAGES == 0:
            what = f"which was changed all the time: {MOST_MESSAGES} times within a second"
            self._end(tap, "changed it all the time", what)

    def _forget(self, index: int) -> None:
        if self._cards.pop(index, None) is not None and not self._cards:
            self._set_membership(wanted=False)

    def _check_all(self) -> None:
        for tap in ours_among(self._host.taps(PREFIXES)):
            self._check(tap)
        self._give_back(None)

    def _check(self, tap: OurTap) -> None:
        """Delete *tap* if it has another address than its own, or more queues."""
        link, own = tap.link, own_address(tap.link.name)
        if own is None or link.address == own:
            self._check_queues(tap)
            return
        # First what takes no time: to delete a link costs the kernel several grace periods. If the
        # holder takes the address again meanwhile, the kernel tells that too.
        _try(lambda: self._host.set_address(link.ifindex, own))
        self._give_back(link.address)
        what = f"to which its holder gave the address '{link.address}'"
        self._end(tap, "gave it another machine's address", what)

    def _check_queues(self, tap: OurTap) -> None:
        """Delete *tap* if it has more queues than were asked for, as far as that is known."""
        has, asked = tap.link.queues or 0, tap.holder.queues
        if has > asked > 0:
            what = f"which had {has} queues instead of {asked}"
            self._end(tap, f"added queues to it: it had {has} instead of {asked}", what)

    def _end(self, tap: OurTap, why: str, what: str) -> None:
        """Delete *tap*, let its user wait for the next one, and log that once."""
        link, (uid, pid, *_) = tap
        wait_s = self._penalties.add(uid, link.ifindex, why)
        _try(lambda: self._host.delete(link.ifindex))
        if wait_s:
            who = Peer(uid, frozenset(), pid, name=self._name(uid), vm=tap.holder.vm).who_asks
            then = f"had asked for it; no other tap for that user for {wait_s:.0f} s"
            log(WARNING, f"deleted '{link.name}', {what}; {who} {then}")

    def _give_back(self, address: str | None) -> None:
        """Tell the bridges again which port has *address*, or each address of a card."""
        for index, card in list(self._cards.items()):
            if address in (None, card):
                _try(lambda: claims.make_again(self._host, index, card))  # noqa: B023 - called at once


def _try(step: Callable[[], None]) -> bool:
    """Do *step*, and say whether that worked; else the others have to be done all the same."""
    try:
        step()
    except Exception as error:  # noqa: BLE001 - the thread of the watch must not end
        # With these, it is done already, or the tap is gone.
        if getattr(error, "errno", 0) not in (errno.EEXIST, errno.ENODEV, errno.ENOENT):
            log(WARNING, f"{error}, ignoring")
        return False
    return True
