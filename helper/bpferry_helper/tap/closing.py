# SPDX-License-Identifier: LGPL-2.1-or-later
"""Closes taps that stay and that the policy of now would not make, and opens them again.

A tap that stays may be as old as the host's uptime. Closed means down: it stays a port of its
bridge, and nothing goes through it, whoever has it open; only root can set it up. The alias says
that it was closed here, so that a tap that an administrator set down stays down.

Judged is the policy, with the groups that mattered when the user asked for the tap. That a user has
left a group since is not looked up: name services may hang. ``deny`` closes such a tap.
"""

from typing import Protocol

from bpferry_helper.errors import PolicyError, RequestError
from bpferry_helper.identity import Peer
from bpferry_helper.log import INFO, WARNING, log
from bpferry_helper.policy.rules import Policy
from bpferry_helper.tap.census import Census
from bpferry_helper.tap.links import Links
from bpferry_helper.tap.marks import OurTap, write_alias
from bpferry_helper.tap.netlink import LinkError
from bpferry_helper.tap.permission import BridgeConfSource, TapDecision, decide_tap


class PolicySource(Protocol):
    """What knows the policy of now: PolicyFile, or a fake in a test."""

    def current(self) -> Policy:
        """Return it, or raise PolicyError."""


class Closer:
    """Holds the taps that stay against the policy. For one thread."""

    def __init__(self, host: Links, policy: PolicySource, bridge_conf: BridgeConfSource) -> None:
        """Borrow the links of the *host*."""
        self._host = host
        self._policy = policy
        self._bridge_conf = bridge_conf

    def sweep(self, census: Census) -> None:
        """Close each tap that is not allowed any more, and open each that is allowed again.

        A file with a mistake closes nothing: the next one may be right.
        """
        try:
            policy = self._policy.current()
            if policy.bridge_conf and self._bridge_conf.current().mistake:
                return
            for tap in census.alive():
                self._hold_against(policy, tap)
        except PolicyError:
            return
        except LinkError as error:
            log(WARNING, f"{error}, ignoring")

    def _hold_against(self, policy: Policy, tap: OurTap) -> None:
        decision = self._judge(policy, tap)
        if decision is None or decision.allowed != tap.holder.is_closed:
            return
        link, holder = tap.link, tap.holder._replace(is_closed=not decision.allowed)
        alias = [("IFLA_IFALIAS", write_alias(holder))]
        if decision.allowed:
            self._host.set(link.ifindex, alias, up=True)
            word = "opened again"
        else:
            self._host.set_down(link.ifindex, alias)
            word = "closed"
        log(INFO, f"{word} '{link.name}' of uid {holder.uid}: {decision.because}")

    def _judge(self, policy: Policy, tap: OurTap) -> TapDecision | None:
        """Decide on *tap* as if its user asked now; None if it is not to be judged."""
        link, holder = tap
        # Aliases of earlier helpers do not say for which groups the tap was made.
        if not tap.was_created or not holder.queues or not link.master:
            return None
        bridge = self._host.by_index(link.master)
        if bridge is None:
            return None
        peer = Peer(holder.uid, frozenset(holder.groups), holder.pid)
        try:
            return decide_tap(
                policy, self._bridge_conf, peer, bridge.name, is_network=False, queues=1
            )
        except RequestError:
            # The bridge has been given a name that no policy can name.
            return None
