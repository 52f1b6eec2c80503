# SPDX-License-Identifier: LGPL-2.1-or-later
"""Closes taps that the policy of now would not make, and opens them again.

A tap that stays may be as old as the host's uptime. Closed means down: it stays a port of its
bridge, and nothing goes through it, whoever has it open; only root can set it up. The alias says
that it was closed here, so that a tap that an administrator set down stays down.

Judged is the policy, with the groups that mattered when the user asked for the tap. That a user has
left a group since is not looked up: name services may hang. ``deny`` closes such a tap. A tap that
stays is also closed if its port lacks what policy demands of ports by now, has more bandwidth, is
in another VLAN, or is for a card whose address policy no longer allows.
A tap that goes with its VM is closed by ``deny`` alone, which somebody wrote for this very user.
While a rule that may be about the user has a name that nobody knows, the tap is left as it is: a
name service that fails for a moment must not cut off VMs.
Numbers, as of taps or queues, count when a tap is made, and close none that is there.
"""

from typing import Final, Protocol

from bpferry_helper.errors import PolicyError, RequestError
from bpferry_helper.identity import Peer
from bpferry_helper.log import INFO, WARNING, log
from bpferry_helper.policy.rules import Decision, Policy, Port, in_words
from bpferry_helper.tap.census import Census
from bpferry_helper.tap.links import Links
from bpferry_helper.tap.maker import port_settings
from bpferry_helper.tap.marks import OurTap, write_alias
from bpferry_helper.tap.netlink import LinkError
from bpferry_helper.tap.permission import BridgeConfSource, decide_tap, denial, may_be_named
from bpferry_wire.rates import rate_in_words

KEYS: Final = {
    "LOCKED": "address-lock",
    "ISOLATED": "isolated",
    "GUARD": "bpdu-guard",
    "PROTECT": "root-block",
    "MCAST_FLOOD": "multicast-flood",
    "UNICAST_FLOOD": "unicast-flood",
}
"""The policy's words for settings of a port."""


class PolicySource(Protocol):
    """What knows the policy of now: PolicyFile, or a fake in a test."""

    def current(self) -> Policy:
        """Return it, or raise PolicyError."""

    def name(self, uid: int) -> str:
        """Return the name of *uid* as far as it is known; else ""."""


class Closer:
    """Holds the taps that are alive against the policy. For one thread."""

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
            taps = census.alive()
        except PolicyError:
            return
        except LinkError as error:
            log(WARNING, f"{error}, ignoring")
            return
        for tap in taps:
            try:
                self._hold_against(policy, tap)
            except LinkError as error:
                log(WARNING, f"'{tap.link.name}': {error}, ignoring")

    def _hold_against(self, policy: Policy, tap: OurTap) -> None:
        decision = self._judge(policy, tap)
        if decision is None or (decision.allowed and not tap.holder.is_closed):
            return
        link, holder = tap.link, tap.holder._replace(is_closed=not decision.allowed)
        alias = [("IFLA_IFALIAS", write_alias(holder))]
        if decision.allowed:
            self._host.set(link.ifindex, alias, up=True)
            word = "opened again"
        elif link.is_up or not tap.holder.is_closed:
            self._host.set_down(link.ifindex, alias)
            word = "closed"
        else:
            return
        log(INFO, f"{word} '{link.name}' of {holder.who}: {decision.because}")

    def _judge(self, policy: Policy, tap: OurTap) -> Decision | None:
        """Decide on *tap* as if its user asked now; None if it is not to be judged."""
        link, holder = tap
        bridge = self._host.by_index(link.master) if link.master else None
        if bridge is None:
            return None
        name = self._policy.name(holder.uid)
        peer = Peer(holder.uid, frozenset(holder.groups), holder.pid, name=name)
        if may_be_named(policy, peer, bridge.name):
            return None
        if not tap.was_created:
            denied = denial(policy, peer, bridge.name)
            return Decision(not denied, denied or f"no 'deny' of the user names '{bridge.name}'")
        # Aliases of earlier helpers do not say for which groups the tap was made.
        if not holder.queues:
            return None
        try:
            ruling = decide_tap(
                policy,
                self._bridge_conf,
                peer,
                bridge.name,
                is_network=False,
                queues=1,
                mac=bytes.fromhex(holder.mac.replace(":", "")),
            )
        except RequestError:
            # The bridge has been given a name that no policy can name.
            return None
        lacks = self._lacks(ruling.port, tap) if ruling.allowed else ""
        return Decision(allowed=False, because=lacks) if lacks else Decision(*ruling[:2])

    def _lacks(self, port: Port, tap: OurTap) -> str:
        """Return what *port* demands and the port of *tap* was not given; or ""."""
        link, holder = tap
        if holder.vlan and not any(holder.vlan in some for some in port.vlans):
            return f"policy no longer allows its VLAN {holder.vlan}"
        if port.vlans and not holder.vlan:
            return f"policy allows only the VLANs {in_words(port.vlans)}, and it is in none of them"
        for way, most in port.bandwidth._asdict().items():
            has_rate = getattr(holder, way)
            if most and not 0 < has_rate <= most.average:
                limit = rate_in_words(most.average)
                return f"policy allows at most {limit} {way} there by now, and it was made for more"
        wanted = port_settings(port)
        has = self._host.port_settings(link.ifindex) if wanted else wanted
        keys = (key for name, key in KEYS.items() if name in wanted and has[name] != wanted[name])
        key = next(keys, "")
        return f"policy has '{key}' there by now, and it was made without" if key else ""
