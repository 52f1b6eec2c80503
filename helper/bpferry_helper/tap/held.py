# SPDX-License-Identifier: LGPL-2.1-or-later
"""The taps that are in use: list them for their users and the administrator, and delete them."""

from typing import Final

from bpferry_helper.clock import now_s
from bpferry_helper.errors import RequestError
from bpferry_helper.exchange import Answer
from bpferry_helper.identity import Peer
from bpferry_helper.log import INFO, log
from bpferry_helper.role import check_is_root
from bpferry_helper.tap.census import Census
from bpferry_helper.tap.link_codec import Link
from bpferry_helper.tap.links import Links
from bpferry_helper.tap.marks import OurTap
from bpferry_helper.tap.netlink import LinkError
from bpferry_wire import messages
from bpferry_wire.errors import Code

BY_KERNEL: Final = "kernel"


class HeldTaps:
    """Answers requests about existing taps. Safe to use from several threads."""

    def __init__(self, host: Links, census: Census) -> None:
        """Borrow the links of the *host*, and the *census* of its taps."""
        self._host = host
        self._census = census

    def quota(self, peer: Peer, per_user: int, in_total: int) -> Answer:
        """Return what *peer* and all users hold, and what they may hold."""
        owners = [tap.holder.uid for tap in self._alive()]
        reply = messages.QuotaReply(
            held=owners.count(peer.uid),
            allowed=per_user,
            held_by_all=len(owners),
            allowed_to_all=in_total,
            counted_by=BY_KERNEL,
        )
        return Answer(reply)

    def status(self, peer: Peer) -> Answer:
        """Return who holds what, oldest first; only for root."""
        check_is_root(peer)
        held = sorted(self._alive(), key=lambda tap: tap.holder.since_s)
        now = now_s()
        bridges = self._bridges(held)
        grants = (
            messages.Grant(
                holder.uid,
                holder.pid,
                link.name,
                max(0, now - holder.since_s),
                inbound=holder.inbound,
                outbound=holder.outbound,
                bridge=bridges[link.master],
                vm=holder.vm,
            )
            for link, holder in held
        )
        return Answer(messages.StatusReply(tuple(grants), BY_KERNEL))

    def show(self, peer: Peer) -> Answer:
        """Return the taps of *peer*'s user, sorted by name."""
        mine = [tap for tap in self._alive() if tap.holder.uid == peer.uid]
        names = self._bridges(mine)
        taps = (
            messages.OwnTap(
                interface=link.name,
                bridge=names[link.master],
                queues=self._open_queues(link),
                made_with=holder.queues,
                stays=link.stays,
                closed=holder.is_closed,
                inbound=holder.inbound,
                outbound=holder.outbound,
            )
            for link, holder in sorted(mine, key=lambda tap: tap.link.name)
        )
        return Answer(messages.ListReply(tuple(taps)))

    def delete(self, peer: Peer, interface: str) -> Answer:
        """Delete the tap *interface*, which was created for *peer*'s user and is not open.

        Raises:
            RequestError: there is no such tap, or it is open.
        """
        mine = (tap for tap in self._alive() if tap.holder.uid == peer.uid and tap.was_created)
        tap = next((tap.link for tap in mine if tap.link.name == interface), None)
        if tap is None:
            raise RequestError(
                Code.REFUSED,
                f"{peer.who} has no tap '{interface}' that was created to stay",
                "see: bpferry tap list",
            )
        queues = self._open_queues(tap)
        if queues:
            raise RequestError(
                Code.BUSY,
                f"cannot delete '{interface}': {queues} of its queues are open",
                "end the VM that uses it",
            )
        try:
            self._host.delete(tap.ifindex)
        except LinkError as error:
            raise RequestError(Code.FAILED, f"'{interface}': {error}") from error
        log(INFO, f"deleted '{interface}' for {peer.who_asks}")
        return Answer(messages.DeleteReply(interface))

    def _alive(self) -> list[OurTap]:
        try:
            return self._census.alive()
        except LinkError as error:
            raise _try_later(error) from error

    def _open_queues(self, tap: Link) -> int:
        try:
            return self._host.open_queues(tap)
        except LinkError as error:
            raise _try_later(error) from error

    def _bridges(self, taps: list[OurTap]) -> dict[int, str]:
        """Return the name of each bridge that *taps* are on, by index; empty for what is none."""
        try:
            found = {i: self._host.by_index(i) for i in {tap.link.master for tap in taps} if i}
        except LinkError as error:
            raise _try_later(error) from error
        return {0: "", **{index: link.name if link else "" for index, link in found.items()}}


def _try_later(error: LinkError) -> RequestError:
    return RequestError(Code.FAILED, str(error), "try again later")
