# SPDX-License-Identifier: LGPL-2.1-or-later
"""Turns a decision into a tap on its bridge. If anything fails, nothing is left behind.

    1. look      the bridge exists, is a bridge, and its MTU is large enough
    2. secure    the bridge has an address of its own, which no port can change
    3. make      the tap with all its queues and its owner, in our own namespace (nursery)
    4. give      one message moves it to the host, puts it on its bridge and sets it up; if policy
                 has settings for the port, they are made before it is up
    5. check     the tap is there, on this bridge

A spare tap of the nursery has been through step 3 and has moved; the rest of step 4 is the same.

Until the last step only the fds held here keep the tap alive. Any failure closes them, and the tap
goes away, in whatever namespace it is.
"""

import errno
from collections.abc import Callable
from typing import Final, NamedTuple

from bpferry_helper.errors import RequestError
from bpferry_helper.log import WARNING, log
from bpferry_helper.policy.rules import DEFAULT_TX_QUEUE_LENGTH, LIMIT_MODULES, Port
from bpferry_helper.tap import claims
from bpferry_helper.tap.bridges import Bridges, Wanted, default_vlan, explain
from bpferry_helper.tap.link_codec import Link
from bpferry_helper.tap.links import Links
from bpferry_helper.tap.marks import own_address
from bpferry_helper.tap.netlink import LinkError, Netlink
from bpferry_helper.tap.nursery import SPARE_IS_GONE, Newborn, Nursery, SpareIsGone
from bpferry_helper.tap.tun import make_persistent, set_owner
from bpferry_wire.errors import Code
from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import Bandwidth

ATTEMPTS: Final = 3
"""A name of 48 random bits is never taken by accident; somebody else may take one on purpose."""

NO_SUCH_DISCIPLINE: Final = frozenset({errno.ENOENT, errno.EOPNOTSUPP})
"""The kernel's answers if it has no such queueing discipline, classifier or action."""

WORTH_ANOTHER_TRY: Final = frozenset({errno.EEXIST, SPARE_IS_GONE})


class Order(NamedTuple):
    """What to make: only numbers, a checked name and a decision."""

    wanted: Wanted
    queues: int
    owner: int
    """Who may open the queues: the user, if the tap stays; else this helper."""
    stays: bool
    alias: str
    isolated: bool
    """The user asked for it; policy may demand it too."""


class MadeTap(NamedTuple):
    """A tap on its bridge. Its holder owns the fds."""

    name: str
    ifindex: int
    mtu: int
    fds: OwnedFds


Guard = Callable[[int, str], None]
"""Told of the index of each tap with address-lock and of its card's address; see ``watch``."""


class Maker:
    """Makes taps. Safe to use from several threads."""

    def __init__(self, host: Netlink, own: Netlink, guard: Guard) -> None:
        """Borrow sockets to the *host*'s network namespace and to our *own*."""
        self._guard = guard
        self._host = Links(host)
        self._nursery = Nursery(host, own)
        self._bridges = Bridges(self._host)

    def check(self, wanted: Wanted) -> Link:
        """Return the bridge; raise RequestError if such a tap cannot be made now.

        Makes and changes nothing.
        """
        return self._bridges.check(wanted)

    def find(self, wanted: Wanted) -> Link:
        """Return the bridge for such a tap (step 1).

        Raises:
            RequestError: there is no such bridge, or it cannot take this tap.
        """
        return self._bridges.find(wanted)

    def secure_again(self, bridges: frozenset[int]) -> None:
        """Do step 2 for those *bridges* with our taps for which it was not possible before."""
        self._bridges.secure_again(bridges)

    def make(self, order: Order, bridge: Link) -> MadeTap:
        """Make the tap of *order* on *bridge*, which ``find`` returned.

        Raises:
            RequestError: it could not be made; nothing is left behind.
        """
        self._bridges.secure(bridge, order.wanted.port)
        for attempts_left in reversed(range(ATTEMPTS)):
            try:
                return self._make(order, bridge)
            except LinkError as error:
                if not attempts_left or error.errno not in WORTH_ANOTHER_TRY:
                    gone = self._bridges.is_gone(bridge)
                    raise explain(error, bridge.name, gone=gone) from error
                if isinstance(error, SpareIsGone):
                    log(WARNING, f"{error}; making another tap")
                    self._nursery.forget_spares()
        raise AssertionError

    def _make(self, order: Order, bridge: Link) -> MadeTap:
        newborn = self._nursery.take(order.queues, stays=order.stays)
        try:
            index = self._give(order, bridge, newborn)
            if order.stays:
                set_owner(newborn.fds[0].borrow(), order.owner)
                make_persistent(newborn.fds[0].borrow())
            else:
                self._nursery.refill(order.queues)
        except BaseException:
            newborn.fds.close()
            raise
        return MadeTap(newborn.name, index, bridge.mtu, newborn.fds)

    def _give(self, order: Order, bridge: Link, newborn: Newborn) -> int:
        """Put *newborn* on *bridge*; return its index on the host."""
        settings = port_settings(order.wanted.port, isolated=order.isolated)
        vlan, tagged = order.wanted.port_vlan, order.wanted.tagged
        in_vlans = vlan is not None or bool(tagged)
        length, limits = order.wanted.port.tx_queue_length, order.wanted.limits
        usual = length == DEFAULT_TX_QUEUE_LENGTH and limits == Bandwidth()
        plain = not settings and not in_vlans and usual
        attributes = [
            ("IFLA_MTU", bridge.mtu),
            ("IFLA_ADDRESS", own_address(newborn.name)),
            ("IFLA_IFALIAS", order.alias),
            ("IFLA_MASTER", bridge.ifindex),
        ]
        self._nursery.give(newborn, attributes, up=plain)
        arrived = self._host.expect(newborn.name)
        if arrived.master != bridge.ifindex:
            raise LinkError(f"cannot put the tap '{newborn.name}' on its bridge", errno.ENODEV)
        if not plain:
            self._host.set_queue_length(arrived.ifindex, length)
            self._host.set_port(arrived.ifindex, settings)
            if in_vlans:
                former = default_vlan(bridge) or 0
                self._host.set_vlans(arrived.ifindex, vlan, tagged, former)
            self._limit(arrived, limits, bridge)
            if order.wanted.port.address_lock:
                self._lock(arrived, order.wanted, bridge)
            self._host.set(arrived.ifindex, [], up=True)
        return arrived.ifindex

    def _limit(self, tap: Link, limits: Bandwidth, bridge: Link) -> None:
        """Limit what goes through *tap*, which is not up yet."""
        way = "inbound"
        try:
            if limits.inbound:
                self._host.limit_inbound(tap.ifindex, limits.inbound)
            way = "outbound"
            if limits.outbound:
                self._host.limit_outbound(tap.ifindex, limits.outbound)
        except LinkError as error:
            if error.errno not in NO_SUCH_DISCIPLINE:
                raise
            needed = " ".join(LIMIT_MODULES[way])
            raise RequestError(
                Code.UNSUPPORTED,
                f"cannot make a tap on '{bridge.name}' with an {way} limit: this kernel cannot set "
                f"it without {needed} ({error})",
                f"ask the administrator to run: modprobe -a {needed}; without these "
                "modules, neither the request nor the policy can have that limit",
            ) from error

    def _lock(self, tap: Link, wanted: Wanted, bridge: Link) -> None:
        """Make the bridge accept only the card's address from *tap*."""
        if not self._host.is_locked(tap.ifindex):
            raise RequestError(
                Code.UNSUPPORTED,
                f"cannot make a tap on '{bridge.name}': policy has address-lock there, and this "
                "kernel cannot lock the port of a bridge",
                "the administrator needs Linux 5.16 or newer, or a policy without address-lock",
            )
        # Bridges.find refuses a tap without an address; with none, nothing would pass.
        claim = wanted.claim_on(bridge)
        if claim is not None:
            # First the guard: it makes the entry again if somebody takes the address meanwhile.
            self._guard(tap.ifindex, claim.address)
            claims.make(self._host, tap.ifindex, bridge, claim)


def port_settings(port: Port, *, isolated: bool = False) -> dict[str, bool]:
    """Return what is to be set, named as in ``Links.set_port``; nothing for a plain port."""
    wanted = {
        "ISOLATED": (isolated or port.isolated, False),
        "LOCKED": (port.address_lock, False),
        "LEARNING": (not port.address_lock, True),
        "GUARD": (port.bpdu_guard, False),
        "PROTECT": (port.root_block, False),
        "MCAST_FLOOD": (port.multicast_flood, True),
        # The bridge knows the one address behind a locked port.
        "UNICAST_FLOOD": (port.unicast_flood and not port.address_lock, True),
    }
    return {name: value for name, (value, usual) in wanted.items() if value != usual}
