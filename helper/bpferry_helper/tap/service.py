# SPDX-License-Identifier: LGPL-2.1-or-later
"""What each request to the role tap does, and why it is safe to do for anybody who may connect."""

import os
import socket
import time
from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Final

from bpferry_helper.clock import now_s
from bpferry_helper.errors import RequestError, StartupError
from bpferry_helper.exchange import Answer, Asked, Paced, Work
from bpferry_helper.identity import Peer
from bpferry_helper.log import INFO, log
from bpferry_helper.policy.cards import cards_in_words
from bpferry_helper.policy.current import PolicyFile
from bpferry_helper.policy.rules import Decision, Policy
from bpferry_helper.rate import TokenBuckets, pace_of_all
from bpferry_helper.role import cannot, check_allowed, check_pace, hello, not_here, usable_policy
from bpferry_helper.tap.bridge_conf import BridgeConfFile
from bpferry_helper.tap.bridges import Wanted
from bpferry_helper.tap.census import Census
from bpferry_helper.tap.closing import Closer
from bpferry_helper.tap.held import HeldTaps
from bpferry_helper.tap.links import Links
from bpferry_helper.tap.maker import MadeTap, Maker, Order
from bpferry_helper.tap.marks import GROUPS_KEPT, Holder, write_alias
from bpferry_helper.tap.netlink import LinkError, Netlink
from bpferry_helper.tap.penalties import Penalties
from bpferry_helper.tap.permission import TapDecision, decide_tap, groups_by_use, taps_of
from bpferry_helper.tap.watch import AddressWatch
from bpferry_helper.work import log_fault
from bpferry_wire import messages
from bpferry_wire.rates import limits_in_words

NAME: Final = "tap"
SWEEP_S: Final = 60.0
"""How long a tap that was made persistent and then closed may stay while this process runs."""

FIRST_SWEEP_S: Final = 1.0
"""After the start: deny and too many queues end a tap soon, but the client that started us has its
answer first."""

LISTS_AT_ONCE: Final = 16
LISTS_PER_SECOND: Final = 8
"""Per user. Each list reads all taps that are alive and takes 0.2 ms of CPU time per tap."""


class TapService:
    """The role's service. ``prepare`` runs in the loop, the work it returns in a worker."""

    may_be_killed = False
    """A job that hangs waits for the kernel's RTNL lock. A process that is killed waits for it too,
    and so does its successor."""
    closing_waits = True
    """Whoever closes a tap last deletes it: we do if the client has closed its queues at once."""

    def __init__(
        self, policy: PolicyFile, host: Netlink, own: Netlink, changes: socket.socket
    ) -> None:
        """Borrow sockets to the *host*'s network namespace and to our *own*.

        *changes* is another one of the host's, for what the kernel tells of links.

        Raises:
            StartupError: they are the same, or the kernel does not answer.
        """
        self._policy = policy
        self._bridge_conf = BridgeConfFile()
        links = Links(host)
        self._buckets = TokenBuckets()
        self._list_buckets = TokenBuckets()
        self._penalties = Penalties()
        try:
            _check_apart(host, own)
            self._watch = AddressWatch(changes, links, self._penalties, policy.name)
            self._maker = Maker(host, own, self._watch.guard)
            self._census = Census(links)
            self._held = HeldTaps(links, self._census)
            self._closer = Closer(links, policy, self._bridge_conf)
        except (LinkError, OSError) as error:
            raise StartupError(f"cannot reach the host's network: {error}") from error

    def work_ahead(self) -> float | None:
        """Return None: spare taps have a thread of their own (nursery)."""
        return None

    def is_needed(self) -> bool:
        """Return whether a tap has to be watched."""
        return self._watch.is_needed

    def sweep(self) -> None:
        """Delete taps that were made persistent and left; close those that policy denies now."""
        self._census.sweep()
        self._watch.look()
        self._closer.sweep(self._census)
        self._maker.secure_again(self._census.known_bridges())

    def keep_sweeping(self) -> None:
        """Sweep now and then, for as long as this process runs."""
        Thread(target=self._sweep_forever, name="sweeper", daemon=True).start()

    def _sweep_forever(self) -> None:
        pause_s = FIRST_SWEEP_S
        while True:
            time.sleep(pause_s)
            pause_s = SWEEP_S
            try:
                self.sweep()
            except Exception as error:  # noqa: BLE001 - a fault now must not end all later sweeps
                log_fault("looking for taps that were left", error)

    # The peer is not trusted. Why each request is safe for it to make:
    #  * Hello:   tells the peer constants, and what it knows about itself.
    #  * Quota:   counts of taps, which any user sees in ``ip link``.
    #  * Can:     only the decision, nothing is made; it reads two files that root wrote, and looks
    #             at the bridge only if policy opens it to the peer.
    #  * Status:  who holds what; only for uid 0, which can see that anyway.
    #  * List:    the taps whose alias names the peer's own uid.
    #  * Tap:     the peer supplies the name of a bridge, which is checked as bytes before it is
    #             compared and looked up once, and numbers within bounds. We choose name, flags,
    #             owner and MTU of the tap; no stranger can attach to it at any time (maker). The
    #             cost is bounded by rate and quota, both per uid. If the request names a card's
    #             address, others cannot use it on that bridge as long as the tap exists.
    #  * Create:  as Tap; the tap belongs to the peer, which could do no more with its fds.
    #  * Delete:  only a tap that was created for this very uid and that nobody has open.
    # Requests that read the whole list of taps (Quota, List, Delete) are rate-limited per user.
    # Every request except Hello, Status, List and Delete needs a usable policy.
    def prepare(self, asked: Asked) -> Work | Paced | Answer:  # noqa: PLR0911 - one for each request
        """Decide what to do; everything here is quick."""
        request, peer = asked.request, asked.peer
        match request:
            case messages.Hello():
                return hello(NAME, peer)
            case messages.Quota():
                self._check_list_pace(peer)
                policy = usable_policy(self._policy)
                per_user, in_total = taps_of(policy, peer), policy.taps_in_total
                return partial(self._held.quota, peer, per_user, in_total)
            case messages.Can(messages.Tap() as tap) | messages.Can(messages.Create(tap)):
                policy = usable_policy(self._policy)
                decision = self._decide(policy, peer, tap)
                work = partial(self._can, decision, peer, tap)
                return work if decision.allowed else work()
            case messages.Status():
                return partial(self._held.status, peer)
            case messages.ListTaps():
                self._check_list_pace(peer)
                return partial(self._held.show, peer)
            case messages.Delete():
                self._check_list_pace(peer)
                return partial(self._held.delete, peer, request.interface)
            case messages.Tap():
                return self._paced(self._tap, asked, request)
            case messages.Create():
                return self._paced(self._create, asked, request.tap)
        raise not_here(NAME, request)

    def _paced(self, make: Callable[..., Answer], asked: Asked, tap: messages.Tap) -> Paced:
        policy, decision = self._permit(asked, tap)
        pace = pace_of_all(policy.taps_per_second_in_total)
        return Paced(partial(make, policy, asked, tap, decision), pace)

    def _check_list_pace(self, peer: Peer) -> None:
        check_pace(self._list_buckets, peer, "lists", LISTS_AT_ONCE, LISTS_PER_SECOND)

    def _decide(self, policy: Policy, peer: Peer, tap: messages.Tap) -> TapDecision:
        return decide_tap(
            policy,
            self._bridge_conf,
            peer,
            tap.source,
            is_network=tap.is_network,
            queues=tap.queues,
            mac=tap.mac,
        )

    def _permit(self, asked: Asked, tap: messages.Tap) -> tuple[Policy, TapDecision]:
        """Return the policy and that *tap* is allowed, or raise RequestError."""
        policy = usable_policy(self._policy)
        decision = self._decide(policy, asked.peer, tap)
        ruling = Decision(decision.allowed, decision.because)
        action = f"have a tap on '{tap.source}'"
        check_allowed(ruling, asked.peer, action, policy, decision.code)
        self._penalties.check(asked.peer)
        at_once, per_second = policy.taps_at_once, policy.taps_per_second
        check_pace(self._buckets, asked.peer, "taps", at_once, per_second)
        return policy, decision

    def _tap(
        self, policy: Policy, asked: Asked, tap: messages.Tap, decision: TapDecision
    ) -> Answer:
        made = self._make(policy, asked, tap, decision, stays=False)
        return Answer(messages.TapReply(made.name, decision.bridge, made.mtu), made.fds)

    def _create(
        self, policy: Policy, asked: Asked, tap: messages.Tap, decision: TapDecision
    ) -> Answer:
        made = self._make(policy, asked, tap, decision, stays=True)
        made.fds.close()
        return Answer(messages.TapReply(made.name, decision.bridge, made.mtu))

    def _make(
        self, policy: Policy, asked: Asked, tap: messages.Tap, decision: TapDecision, *, stays: bool
    ) -> MadeTap:
        peer = asked.peer
        wanted = _wanted(decision, tap)
        holder = _holder(peer, tap, wanted.limits)
        if stays:
            groups = groups_by_use(policy, peer, decision.bridge)[:GROUPS_KEPT]
            holder = holder._replace(groups=groups, vlan=wanted.port_vlan or 0)
        order = Order(
            wanted=wanted,
            queues=tap.queues,
            owner=peer.uid,
            stays=stays,
            alias=write_alias(holder),
            isolated=tap.isolated,
        )
        with self._census.reserve(peer.uid, decision.taps, policy.taps_in_total) as place:
            bridge = self._maker.find(order.wanted)
            with self._census.claim(bridge, holder, is_locked=wanted.port.address_lock):
                made = self._maker.make(order, bridge)
                self._census.record(made.ifindex, holder, place)
        how = "created for" if stays else "granted to"
        log(
            INFO,
            f"'{made.name}' on '{decision.bridge}' with {tap.queues} queues {how} {peer.who_asks}",
        )
        return made

    def _can(self, decision: TapDecision, peer: Peer, tap: messages.Tap) -> Answer:
        if decision.allowed:
            try:
                self._penalties.check(peer)
                wanted = _wanted(decision, tap)
                bridge = self._maker.check(wanted)
                holder = _holder(peer, tap, wanted.limits)
                is_locked = decision.port.address_lock
                self._census.check_address(bridge, holder, is_locked=is_locked)
            except RequestError as error:
                return Answer(cannot(error))
            port, limits = decision.port, limits_in_words(holder.inbound, holder.outbound)
            is_limited = port.address_lock or port.addresses
            cards = f"for cards with {cards_in_words(port.addresses)}" if is_limited else ""
            because = "; ".join(filter(None, (decision.because, limits, cards)))
            return Answer(messages.CanReply(allowed=True, because=because))
        return Answer(messages.CanReply(decision.allowed, decision.because, decision.code))


def _holder(peer: Peer, tap: messages.Tap, limits: messages.Bandwidth) -> Holder:
    return Holder(
        uid=peer.uid,
        pid=peer.pid,
        since_s=now_s(),
        mac=tap.mac.hex(":") if tap.mac else "",
        queues=tap.queues,
        inbound=limits.inbound.average if limits.inbound else 0,
        outbound=limits.outbound.average if limits.outbound else 0,
        vm=peer.vm,
    )


def _wanted(decision: TapDecision, tap: messages.Tap) -> Wanted:
    return Wanted(
        bridge=decision.bridge,
        port=decision.port,
        mtu=tap.mtu,
        mac=tap.mac,
        vlan=tap.vlan,
        bandwidth=tap.bandwidth,
        tagged=tap.tagged,
    )


def _check_apart(host: Netlink, own: Netlink) -> None:
    """Raise StartupError if taps would be created where others can see them."""
    with host.namespace() as there, own.namespace() as here:
        if os.path.sameopenfile(there.borrow(), here.borrow()):
            raise StartupError(
                "this process must have a network namespace of its own, and its netlink socket be "
                "of the host's: the units must say PrivateNetwork=yes and ListenNetlink=route 0"
            )
