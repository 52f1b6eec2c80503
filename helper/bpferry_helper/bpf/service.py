# SPDX-License-Identifier: LGPL-2.1-or-later
"""What each request to the role bpf does, and why it is safe to do for anybody who may connect."""

from functools import partial
from typing import Final

from bpferry_helper.bpf.census import Census
from bpferry_helper.bpf.ledger import Entry, Ledger
from bpferry_helper.bpf.loader import LoadedSet, load
from bpferry_helper.bpf.pool import Key, Means, Pool
from bpferry_helper.bpf.state import StateFolder
from bpferry_helper.bpf.trust import TrustedObjects
from bpferry_helper.clock import now_s
from bpferry_helper.errors import RequestError
from bpferry_helper.exchange import Answer, Asked, Paced, Work
from bpferry_helper.identity import Peer
from bpferry_helper.policy.current import PolicyFile
from bpferry_helper.policy.rules import Policy, may_load
from bpferry_helper.rate import FairPace, Pace, TokenBuckets, pace_of_all
from bpferry_helper.role import (
    cannot,
    check_allowed,
    check_fair_pace,
    check_is_root,
    check_pace,
    hello,
    not_here,
    usable_policy,
)
from bpferry_wire import messages
from bpferry_wire.errors import Code

NAME: Final = "bpf"

OWN_CAN_PACE: Final = Pace(at_once=4, per_second=1)
SHARED_CAN_PACE: Final = Pace(at_once=32, per_second=32)
"""Of ``can``, for each user and beyond that for all together. An answer about an object that no
trusted QEMU carries takes 3 ms: each of up to 256 files is opened and checked. With 16 at once, 64
users kept the helper busy for three seconds."""


class BpfService:
    """The role's service. ``prepare`` runs in the loop, the work it returns in a worker."""

    may_be_killed = True
    closing_waits = False

    def __init__(self, policy: PolicyFile, state: StateFolder) -> None:
        self._policy = policy
        self._objects = TrustedObjects(state)
        self._ledger = Ledger(state, Census())
        self._pool = Pool(Means(self._load_fresh, self._is_carried, self._room))
        self._buckets = TokenBuckets()
        self._can_pace = FairPace(OWN_CAN_PACE, SHARED_CAN_PACE)

    def work_ahead(self) -> float | None:
        """Load a set ahead if there are fewer than are likely to be asked for."""
        return self._pool.tend()

    def is_needed(self) -> bool:
        """Return False: what was granted needs no helper."""
        return False

    # The peer is not trusted. Why each request is safe for it to make:
    #  * Hello:   tells the peer constants, and what it knows about itself.
    #  * Quota:   two counts; the census reads map ids, and none of them is shown.
    #  * Can:     only the decision, nothing is loaded; it reads what Load reads.
    #  * Status:  who holds what; only for uid 0, which can see that anyway.
    #  * Load:    the peer supplies a name and a digest. The bytes come from a file that only root
    #             can write (trust), have a known shape (loader), and get fresh maps that nobody
    #             else holds, loaded now or before. The cost is bounded by rate and quota, both per
    #             uid, which count in the same way for a set that was loaded before.
    # Every request except Hello needs a usable policy.
    def prepare(self, asked: Asked) -> Work | Paced | Answer:
        """Decide what to do; everything here is quick."""
        request, peer = asked.request, asked.peer
        match request:
            case messages.Hello():
                return hello(NAME, peer)
            case messages.Quota():
                return partial(self._quota, usable_policy(self._policy), peer)
            case messages.Can(messages.Load() as wanted):
                check_fair_pace(self._can_pace, peer, "answers about loads")
                return partial(self._can, usable_policy(self._policy), peer, wanted)
            case messages.Status():
                return partial(self._status, peer)
            case messages.Load():
                policy = usable_policy(self._policy)
                check_allowed(may_load(policy, peer), peer, "load eBPF objects", policy)
                at_once, per_second = policy.loads_at_once, policy.loads_per_second
                check_pace(self._buckets, peer, "sets", at_once, per_second)
                pace = pace_of_all(policy.loads_per_second_in_total)
                key = Key(request.object_id, request.digest)
                quick = self._pool.has(key) and partial(self._hand_over, policy, asked.peer, key)
                return Paced(partial(self._load, policy, asked.peer, key), pace, quick or None)
        raise not_here(NAME, request)

    def _quota(self, policy: Policy, peer: Peer) -> Answer:
        count = self._ledger.count(peer.uid)
        reply = messages.QuotaReply(
            held=count.held,
            allowed=policy.sets_per_user,
            held_by_all=count.held_by_all,
            allowed_to_all=policy.sets_in_total,
            counted_by=count.counted_by,
        )
        return Answer(reply)

    def _can(self, policy: Policy, peer: Peer, request: messages.Load) -> Answer:
        decision = may_load(policy, peer)
        if decision.allowed:
            try:
                self._ledger.check_countable(without_census=policy.without_census)
                self._objects.find(request.digest, policy.trusted)
            except RequestError as error:
                return Answer(cannot(error))
        code = "" if decision.allowed else Code.REFUSED
        return Answer(messages.CanReply(*decision, code))

    def _status(self, peer: Peer) -> Answer:
        check_is_root(peer)
        return Answer(messages.StatusReply(*self._ledger.grants(), ready=len(self._pool)))

    def _hand_over(self, policy: Policy, peer: Peer, key: Key) -> Answer | None:
        """Return a set that is ready; None if a worker has to look. For the loop: never waits."""
        loaded = self._pool.take(key)
        if loaded is None:
            return None
        entry = _entry(peer, key, loaded)
        if not self._ledger.record_at_once(entry, policy.sets_per_user, policy.sets_in_total):
            self._pool.put(key, loaded)
            return None
        return self._granted(policy, peer, key, loaded)

    def _load(self, policy: Policy, peer: Peer, key: Key) -> Answer:
        reserved = self._ledger.reserve(
            peer.uid,
            policy.sets_per_user,
            policy.sets_in_total,
            without_census=policy.without_census,
        )
        with reserved as place:
            loaded = self._pool.take(key)
            if loaded is None:
                # Those in the pool count in total, but nobody is refused for their sake.
                self._pool.keep_at_most(self._room(policy))
                loaded = self._load_fresh(key, policy)
            try:
                self._ledger.record(_entry(peer, key, loaded), place)
            except BaseException:
                loaded.fds.close()
                raise
        return self._granted(policy, peer, key, loaded)

    def _granted(self, policy: Policy, peer: Peer, key: Key, loaded: LoadedSet) -> Answer:
        self._pool.note(key, policy)
        maps = ", ".join(map(str, loaded.map_ids))
        line = f"granted {key} to {peer.who_asks}, maps {maps}"
        return Answer(messages.LoadReply(loaded.descriptions), loaded.fds, line)

    # -- what the pool needs

    def _load_fresh(self, key: Key, policy: Policy) -> LoadedSet:
        elf = self._objects.find(key.digest, policy.trusted)
        return load(elf, key.object_id, policy.program_types)

    def _is_carried(self, key: Key, policy: Policy) -> bool:
        return self._objects.is_carried(key.digest, policy.trusted)

    def _room(self, policy: Policy) -> int:
        return self._ledger.spare_places(policy.sets_in_total)


def _entry(peer: Peer, key: Key, loaded: LoadedSet) -> Entry:
    return Entry(peer.uid, peer.pid, key.object_id, now_s(), loaded.map_ids)._replace(vm=peer.vm)
