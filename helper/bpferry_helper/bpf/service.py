# SPDX-License-Identifier: LGPL-2.1-or-later
"""What each request of the role bpf does, and why it is safe to do for anybody who may connect."""

from functools import partial
from typing import Final

from bpferry_helper.bpf.census import Census, CensusUnavailable
from bpferry_helper.bpf.loader import LoadedSet, load
from bpferry_helper.bpf.trust import TrustedObjects
from bpferry_helper.errors import PolicyError, RequestError
from bpferry_helper.identity import Peer
from bpferry_helper.ledger import Entry, Ledger, now_s
from bpferry_helper.log import INFO, log
from bpferry_helper.policy import Policy, may_load
from bpferry_helper.policy_file import PolicyFile
from bpferry_helper.rate import TokenBuckets
from bpferry_helper.server import Answer, Asked, Work
from bpferry_helper.state import StateFolder
from bpferry_wire import VERSION, limits, messages
from bpferry_wire.errors import Code
from bpferry_wire.fds import OwnedFds

NAME: Final = "bpf"


class BpfService:
    """Answers for the role bpf. ``prepare`` runs in the loop, the work it returns in a worker."""

    def __init__(self, policy: PolicyFile, state: StateFolder) -> None:
        self._policy = policy
        self._objects = TrustedObjects(state)
        self._ledger = Ledger(state, Census(), CensusUnavailable)
        self._buckets = TokenBuckets()

    # The peer is not trusted. Why each request is safe for it to make:
    #  * Hello:   tells the peer what it knows about itself, and constants.
    #  * Quota:   two counts; the census reads ids of maps and shows none of them.
    #  * Can:     the decision without the deed; it reads what Load reads.
    #  * Status:  who holds what, for uid 0 alone, which can see that anyway.
    #  * Load:    the peer supplies a name and a digest. The bytes come from a file that root alone
    #             can write (trust), have a known shape (loader), and go into fresh maps that nobody
    #             else holds. What it costs is bounded by rate and quota, both counted per uid.
    # Each request but Hello needs a usable policy.
    def prepare(self, asked: Asked) -> Work:
        """Decide what is to be done; everything here is quick."""
        request, peer = asked.request, asked.peer
        match request:
            case messages.Hello():
                return partial(_hello, peer)
            case messages.Quota():
                return partial(self._quota, self._usable_policy(), peer)
            case messages.Can():
                return partial(self._can, self._usable_policy(), peer, request.request)
            case messages.Status():
                return partial(self._status, peer)
            case messages.Load():
                policy = self._usable_policy()
                self._check_may_load(policy, peer)
                self._check_pace(policy, peer)
                return partial(self._load, policy, asked, request)

    def connection_closed(self, connection: int) -> None:
        """Take note that a client went away."""
        self._ledger.connection_closed(connection)

    def _usable_policy(self) -> Policy:
        try:
            return self._policy.current()
        except PolicyError as error:
            raise RequestError(
                Code.REFUSED,
                f"nothing is granted while the policy has a mistake: {error}",
                "the administrator can find it with: bpferry-helper check-policy",
            ) from error

    def _check_may_load(self, policy: Policy, peer: Peer) -> None:
        decision = may_load(policy, peer)
        if not decision.allowed:
            raise RequestError(
                Code.REFUSED,
                f"uid {peer.uid} may not load eBPF objects: {decision.because}",
                f"ask the administrator to allow it in {policy.path}",
            )

    def _check_pace(self, policy: Policy, peer: Peer) -> None:
        wait_s = self._buckets.take(peer.uid, policy.loads_at_once, policy.loads_per_second)
        if wait_s:
            raise RequestError(
                Code.BUSY,
                f"uid {peer.uid} has asked for more than {policy.loads_at_once} sets at once and "
                f"{policy.loads_per_second} a second",
                f"try again in {wait_s:.1f} s",
            )

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
                self._objects.find(request.digest, policy.trusted)
            except RequestError as error:
                return Answer(messages.CanReply(allowed=False, because=str(error)))
        return Answer(messages.CanReply(*decision))

    def _status(self, peer: Peer) -> Answer:
        if peer.uid != 0:
            raise RequestError(Code.REFUSED, "only uid 0 may see who holds what", "ask with sudo")
        return Answer(messages.StatusReply(*self._ledger.grants()))

    def _load(self, policy: Policy, asked: Asked, request: messages.Load) -> Answer:
        with self._ledger.reserve(
            asked.peer.uid, policy.sets_per_user, policy.sets_in_total
        ) as place:
            elf = self._objects.find(request.digest, policy.trusted)
            loaded = load(elf, request.object_id, policy.program_types)
            try:
                self._record(asked, request, loaded, place)
            except BaseException:
                loaded.fds.close()
                raise
        return Answer(messages.LoadReply(loaded.descriptions), loaded.fds)

    def _record(self, asked: Asked, request: messages.Load, loaded: LoadedSet, place: int) -> None:
        peer = asked.peer
        entry = Entry(
            peer.uid, peer.pid, request.object_id, now_s(), loaded.map_ids, asked.connection
        )
        self._ledger.record(entry, place)
        log(
            INFO,
            f"granted '{request.object_id}' {request.digest.hex()[:16]} to uid {peer.uid} "
            f"(pid {peer.pid}), maps {', '.join(map(str, loaded.map_ids))}",
        )


def _hello(peer: Peer) -> Answer:
    gids = sorted(peer.gids)
    caller = messages.Caller(peer.uid, tuple(gids[: limits.MAX_GIDS_SHOWN]), len(gids))
    reply = messages.HelloReply(
        NAME, VERSION, caller, limits.MAX_REQUEST_BYTES, limits.MAX_FDS_PER_REPLY
    )
    return Answer(reply, OwnedFds())
