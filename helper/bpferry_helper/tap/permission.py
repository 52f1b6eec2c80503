# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may have a tap on which bridge. Decisions only: the kernel is not asked.

    1. A network is the bridge that policy maps it to. The bridge's name is checked as bytes.
    2. What the user's own rule denies is denied. uid 0 is a user like others. If the rule's user is
       not known, the name decides; if the name of who asks is not known either, they may be meant,
       and are denied too.
    3. If policy says that /etc/qemu/bridge.conf counts, what that denies is denied, even if policy
       would allow it. An administrator who wrote "deny br0" there meant everybody, and if two
       files disagree it is safer to believe the one that says no. For the same reason a mistake
       in that file refuses everything: it may have been a "deny".
    4. The user's own rule, then those of ranges that the user is in, then the rules of their groups
       in the file's order: the first that names the bridge decides, also how many queues a tap may
       have.
    5. What /etc/qemu/bridge.conf allows, it allows to everybody who may connect.
    6. Anything else is refused.

Too many queues are "refused" and not "quota": giving up a tap does not make room for them.
"""

import fnmatch
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, Protocol

from bpferry_helper.identity import Peer
from bpferry_helper.policy.cards import cards_in_words, may_ask_for
from bpferry_helper.policy.names import check_bridge_name, check_network_name
from bpferry_helper.policy.rules import NO_FILE, Policy, Port, Rule
from bpferry_helper.tap.bridge_conf import BridgeConf
from bpferry_wire.errors import Code

QUOTA_QUEUES: Final = "quota.queues-per-tap"


class TapDecision(NamedTuple):
    """Whether a tap on a bridge is allowed, the line that decided, and the limits."""

    allowed: bool
    because: str
    code: Code
    """For the client, if it is not allowed."""
    bridge: str
    """A checked name. Empty if the network is unknown."""
    queues: int
    """The most that one tap may have on this bridge; 0 if the bridge is not open."""
    taps: int
    """The most that the peer may hold."""
    port: Port


class BridgeConfSource(Protocol):
    """Knows the current bridge.conf: BridgeConfFile, or a fake in a test."""

    def current(self) -> BridgeConf:
        """Return its content, quickly."""


class _Ruling(NamedTuple):
    """Whether a bridge is open to somebody; ``key`` is where the number of queues is written."""

    allowed: bool
    because: str
    queues: int = 0
    key: str = QUOTA_QUEUES
    port: dict[str, Any] = {}  # noqa: RUF012 - a NamedTuple's default; nobody writes to it
    """What the rule that decided says of the port."""
    rule: str = ""
    """The key of that rule."""


def decide_tap(
    policy: Policy,
    bridge_conf: BridgeConfSource,
    peer: Peer,
    source: str,
    *,
    is_network: bool,
    queues: int,
    mac: bytes | None = None,
) -> TapDecision:
    """Decide whether *peer* may have a tap of *queues* on *source*, a bridge or a network.

    *mac* is the address of the card behind it, if that is known.

    Raises:
        RequestError: no-such-bridge, if *source* cannot be the name of a bridge or network.
    """
    if is_network:
        check_network_name(source)
        if source not in policy.networks:
            because = _no_network(policy, source)
            taps = taps_of(policy, peer)
            return TapDecision(
                allowed=False,
                because=because,
                code=Code.NO_SUCH_BRIDGE,
                bridge="",
                queues=0,
                taps=taps,
                port=Port(),
            )
    bridge = policy.networks[source] if is_network else source
    check_bridge_name(bridge)
    ruling = _ruling(policy, bridge_conf, peer, bridge)
    if ruling.allowed and queues > ruling.queues:
        limit = f"{policy.where(ruling.key)} allows {ruling.queues} queues for a tap, not {queues}"
        ruling = ruling._replace(allowed=False, because=limit)
    port = port_of(policy, bridge)._replace(**ruling.port)
    is_limited = port.address_lock or bool(port.addresses)
    if ruling.allowed and is_limited and mac and not may_ask_for(port.addresses, mac):
        limit = _no_such_card(policy, ruling, port, mac)
        ruling = ruling._replace(allowed=False, because=limit)
    return TapDecision(
        allowed=ruling.allowed,
        because=ruling.because,
        code=Code.REFUSED,
        bridge=bridge,
        queues=ruling.queues,
        taps=taps_of(policy, peer),
        port=port,
    )


def taps_of(policy: Policy, peer: Peer) -> int:
    """Return how many taps *peer* may hold at the same time."""
    said = [rule for rule in _rules_of(policy, peer) if rule.taps is not None]
    own = [rule.taps or 0 for rule in said if not rule.is_group]
    return own[0] if own else max((rule.taps or 0 for rule in said), default=policy.taps_per_user)


def groups_by_use(policy: Policy, peer: Peer, bridge: str) -> tuple[int, ...]:
    """Return the groups of *peer*, first those whose rules open *bridge*."""
    rules = (rule for rule in policy.rules if rule.is_group)
    opening = {rule.ids[0] for rule in rules if _first_that_fits(bridge, rule.bridges)}
    return tuple(sorted(peer.gids, key=lambda gid: (gid not in opening, gid)))


def port_of(policy: Policy, bridge: str) -> Port:
    """Return how taps are attached to *bridge*: by its own table, else the first that matches."""
    exact = (port for port in policy.ports if port.pattern == bridge)
    fitting = (port for port in policy.ports if _fits(bridge, port.pattern))
    return next(exact, None) or next(fitting, Port())


def _ruling(policy: Policy, bridge_conf: BridgeConfSource, peer: Peer, bridge: str) -> _Ruling:
    denied = denial(policy, peer, bridge)
    if denied:
        return _Ruling(allowed=False, because=denied)
    qemu = bridge_conf.current() if policy.bridge_conf else None
    verdict = qemu.decide(bridge) if qemu else None
    if verdict is not None and not verdict.allowed:
        return _Ruling(*verdict)
    for rule in _rules_of(policy, peer):
        pattern = _first_that_fits(bridge, rule.bridges)
        if pattern:
            return _by_rule(policy, rule, bridge, pattern)
    if verdict is not None:
        return _Ruling(*verdict, queues=policy.queues_per_tap)
    looked = [_unnamed(policy, peer, bridge)]
    looked += [f"'{qemu.path}' does not allow it"] if qemu else []
    return _Ruling(allowed=False, because=", and ".join(looked))


def _rules_of(policy: Policy, peer: Peer) -> Iterator[Rule]:
    """Yield the rule of *peer*, of ranges that it is in, and of its groups."""
    yield from (rule for rule in policy.rules if not rule.is_group and peer.uid in rule.ids)
    yield from (r for name, r in policy.unknown if not r.is_group and name == peer.name)
    yield from (rule for rule in policy.rules if rule.is_group and rule.ids[0] in peer.gids)


def denial(policy: Policy, peer: Peer, bridge: str) -> str:
    """Return the line of the peer's own rule that denies *bridge*, or ""."""
    for rule in _rules_of(policy, peer):
        pattern = _first_that_fits(bridge, rule.deny)
        if pattern:
            return _naming(policy, f"{rule.key}.deny", bridge, pattern)
    return doubt(policy, peer, bridge)


def doubt(policy: Policy, peer: Peer, bridge: str) -> str:
    """Return the line that may deny *bridge* to *peer*: neither its name nor theirs is known."""
    for _, rule in policy.unknown if not peer.name else ():
        pattern = _first_that_fits(bridge, rule.deny)
        if pattern:
            named = _naming(policy, f"{rule.key}.deny", bridge, pattern)
            return f"{named}, for a user that this host does not have, and your name is not known"
    return ""


def may_be_named(policy: Policy, peer: Peer, bridge: str) -> bool:
    """Return whether a rule about *bridge* may be about *peer*, and a name is missing to tell."""
    rules = (rule for _, rule in policy.unknown if rule.is_group or not peer.name)
    return any(_first_that_fits(bridge, (*rule.bridges, *rule.deny)) for rule in rules)


def _first_that_fits(bridge: str, patterns: tuple[str, ...]) -> str:
    return next((pattern for pattern in patterns if _fits(bridge, pattern)), "")


def _naming(policy: Policy, key: str, bridge: str, pattern: str) -> str:
    fits = "" if pattern == bridge else f", which fits '{bridge}'"
    return f"{policy.where(key)} names '{pattern}'{fits}"


def _by_rule(policy: Policy, rule: Rule, bridge: str, pattern: str) -> _Ruling:
    because = _naming(policy, f"{rule.key}.bridges", bridge, pattern)
    own = rule.queues_per_tap
    return _Ruling(
        allowed=True,
        because=because,
        queues=policy.queues_per_tap if own is None else own,
        key=QUOTA_QUEUES if own is None else f"{rule.key}.queues-per-tap",
        port=rule.port,
        rule=rule.key,
    )


def _no_such_card(policy: Policy, ruling: _Ruling, port: Port, mac: bytes) -> str:
    """Say which addresses may be asked for, and that *mac* is not one of them."""
    table = ruling.rule if "addresses" in ruling.port else port.key
    default = "with address-lock, the default of 'addresses'"
    where = policy.where(f"{table}.addresses") if port.addresses else default
    return f"{where} allows {cards_in_words(port.addresses)} for cards, not '{mac.hex(':')}'"


def _unnamed(policy: Policy, peer: Peer, bridge: str) -> str:
    """Name the lines that did not match."""
    if policy.path == NO_FILE:
        return f"there is {NO_FILE}, so no bridge is open"
    keys = (
        key if (key := f"{rule.key}.bridges") in policy.lines else rule.key
        for rule in _rules_of(policy, peer)
    )
    places = " nor ".join(policy.where(key) for key in keys)
    if not places:
        return f"{policy.path} has no rule about bridges for you or your groups"
    return f"'{bridge}' is not named in {places}"


def _no_network(policy: Policy, name: str) -> str:
    if policy.path == NO_FILE:
        return f"there is {NO_FILE}, so no network has a bridge"
    if not policy.networks:
        return f"{policy.path} has no [networks]"
    return f"{policy.where('networks')} has no '{name}'"


def _fits(bridge: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(bridge, pattern)
