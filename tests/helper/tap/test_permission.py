# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may have a tap on which bridge, as a table: each step of the decision, and its line."""

from pathlib import Path

import pytest

from bpferry_helper.errors import PolicyError, RequestError
from bpferry_helper.identity import Peer
from bpferry_helper.policy.rules import NO_FILE, Policy, Port
from bpferry_helper.policy.toml_form import parse_policy
from bpferry_helper.tap.bridge_conf import BridgeConf, BridgeConfFile, Entry
from bpferry_helper.tap.permission import TapDecision, decide_tap, port_of, taps_of
from bpferry_wire.errors import Code

POLICY = """\
[users.1001]
bridges = ["br0", "vm-*"]
queues-per-tap = 8
taps = 3

[users.1002]
queues-per-tap = 2

[groups.107]
bridges = ["virbr0", "br?"]
queues-per-tap = 2

[groups.108]
bridges = ["br1"]
taps = 5

[groups.109]
taps = 7

[bridges."br*"]
address-lock = true

[bridges.br0]
isolated = true

[networks]
default = "virbr0"
"default/fast" = "br0"
gone = "nobr"

[quota]
queues-per-tap = 4
taps-per-user = 16
"""

ROOT = Peer(0, frozenset({0}), 1)
ALICE = Peer(1001, frozenset({1001}), 1)
ALICE_IN_KVM = Peer(1001, frozenset({1001, 107}), 1)
BOB = Peer(1002, frozenset({1002, 107}), 1)
CAROL = Peer(1003, frozenset({108, 107}), 1)
DAVE = Peer(1004, frozenset({108}), 1)
MALLORY = Peer(1005, frozenset({1005, 1001}), 1)
"""In a group whose id is the uid of a rule, which gives nothing."""
TRUDY = Peer(107, frozenset({1007}), 1)
"""Has the id of a group of a rule as uid, which gives nothing."""


class FixedConf:
    """A bridge.conf that says the same always, and counts how often it was asked."""

    def __init__(self, conf: BridgeConf) -> None:
        self._conf = conf
        self.asked = 0

    def current(self) -> BridgeConf:
        """Return it."""
        self.asked += 1
        return self._conf


def conf(*, allows: str = "", denies: str = "", mistake: PolicyError | None = None) -> FixedConf:
    """Return a bridge.conf in which the lines 1 allow, and the lines 2 deny."""
    return FixedConf(
        BridgeConf(
            "/b",
            tuple(Entry(name, "/b:1") for name in allows.split()),
            tuple(Entry(name, "/b:2") for name in denies.split()),
            mistake,
        )
    )


def policy(*, bridge_conf: bool = False) -> Policy:
    """Return the policy above."""
    parsed = parse_policy("/p", POLICY, socket_gid=36)
    return parsed._replace(bridge_conf=bridge_conf)


def decide(
    peer: Peer, source: str, queues: int = 1, *, is_network: bool = False,
    qemu: FixedConf | None = None,
) -> TapDecision:  # fmt: skip
    """Decide by the policy above; with *qemu*, that counts too."""
    rules = policy(bridge_conf=qemu is not None)
    return decide_tap(rules, qemu or conf(), peer, source, is_network=is_network, queues=queues)


ALLOWED = {
    "a user's bridge": (ALICE, "br0", 8, "/p:2 (users.1001.bridges) names 'br0'"),
    "by a pattern": (
        ALICE, "vm-7", 8, "/p:2 (users.1001.bridges) names 'vm-*', which fits 'vm-7'"
    ),
    "by a group": (BOB, "virbr0", 2, "/p:10 (groups.107.bridges) names 'virbr0'"),
    "own rule before the group's": (
        ALICE_IN_KVM, "br0", 8, "/p:2 (users.1001.bridges) names 'br0'"
    ),
    "the group where the own one is silent": (
        ALICE_IN_KVM, "virbr0", 2, "/p:10 (groups.107.bridges) names 'virbr0'"
    ),
    "the first group that fits": (
        CAROL, "br1", 2, "/p:10 (groups.107.bridges) names 'br?', which fits 'br1'"
    ),
    "as many queues as for all": (DAVE, "br1", 4, "/p:14 (groups.108.bridges) names 'br1'"),
}  # fmt: skip


@pytest.mark.parametrize(("peer", "bridge", "queues", "because"), ALLOWED.values(), ids=ALLOWED)
def test_who_is_named_may_have_a_tap(peer: Peer, bridge: str, queues: int, because: str) -> None:
    """With as many queues as the rule says, and the line that decided."""
    decision = decide(peer, bridge, queues)

    assert (True, because, bridge, queues) == (
        decision.allowed, decision.because, decision.bridge, decision.queues
    )  # fmt: skip


REFUSED = {
    "a bridge that nobody may": (ALICE, "br9", "'br9' is not named in /p:2 (users.1001.bridges)"),
    "a pattern's beginning": (ALICE, "vm", "'vm' is not named in /p:2 (users.1001.bridges)"),
    "a pattern in the middle": (ALICE, "xvm-1", "not named in /p:2 (users.1001.bridges)"),
    "another letter case": (ALICE, "BR0", "'BR0' is not named in /p:2 (users.1001.bridges)"),
    "a rule without bridges, and a group's": (
        BOB, "vm-1", "'vm-1' is not named in /p:6 (users.1002) nor /p:10 (groups.107.bridges)"
    ),
    "a group's id as a user's": (TRUDY, "virbr0", "/p has no rule about bridges for you or your"),
    "root like anybody": (ROOT, "br0", "/p has no rule about bridges for you or your groups"),
    "nobody's rule": (MALLORY, "br0", "/p has no rule about bridges for you or your groups"),
}  # fmt: skip


@pytest.mark.parametrize(("peer", "bridge", "because"), REFUSED.values(), ids=REFUSED)
def test_who_is_not_named_may_not(peer: Peer, bridge: str, because: str) -> None:
    """The refusal names the lines that would have to change."""
    decision = decide(peer, bridge)

    assert (False, Code.REFUSED, 0) == (decision.allowed, decision.code, decision.queues)
    assert because in decision.because


TOO_MANY = {
    "for the user": (ALICE, "br0", 9, "/p:3 (users.1001.queues-per-tap) allows 8 queues for a"),
    "for the group": (BOB, "br1", 3, "/p:11 (groups.107.queues-per-tap) allows 2 queues for a"),
    "for everybody": (DAVE, "br1", 5, "/p:32 (quota.queues-per-tap) allows 4 queues for a tap"),
}


@pytest.mark.parametrize(("peer", "bridge", "queues", "because"), TOO_MANY.values(), ids=TOO_MANY)
def test_one_queue_too_many_is_refused(peer: Peer, bridge: str, queues: int, because: str) -> None:
    """As forbidden and not as a quota, with the line and both numbers."""
    decision = decide(peer, bridge, queues)

    assert (False, Code.REFUSED, queues - 1) == (decision.allowed, decision.code, decision.queues)
    assert decision.because.startswith(because)
    assert decision.because.endswith(f", not {queues}")


def test_without_a_file_nobody_may() -> None:
    """And the refusal says that there is none."""
    nothing = Policy(NO_FILE, users=frozenset(), groups=frozenset({107}))
    decisions = [
        decide_tap(nothing, conf(allows="all"), p, "br0", is_network=False, queues=1)
        for p in (BOB, ROOT)
    ]

    assert [(d.allowed, d.because) for d in decisions] == [
        (False, "there is no policy file, so no bridge is open"),
    ] * 2


BY_QEMU = {
    "allowed there": (MALLORY, conf(allows="br0"), True, "/b:1 allows 'br0'"),
    "all allowed there": (MALLORY, conf(allows="all"), True, "/b:1 allows all"),
    "denied there": (ALICE, conf(denies="br0"), False, "/b:2 denies 'br0'"),
    "all denied there": (ALICE, conf(denies="all"), False, "/b:2 denies all"),
    "allowed and denied there": (
        ALICE, conf(allows="br0", denies="br0"), False, "/b:2 denies 'br0'"
    ),
    "policy speaks where it is silent": (
        ALICE, conf(denies="br1"), True, "/p:2 (users.1001.bridges) names 'br0'"
    ),
    "policy has the first word": (
        ALICE, conf(allows="all"), True, "/p:2 (users.1001.bridges) names 'br0'"
    ),
    "neither": (
        MALLORY, conf(allows="br1"), False,
        "/p has no rule about bridges for you or your groups, and '/b' does not allow it",
    ),
    "a mistake there": (
        ALICE, conf(allows="all", mistake=PolicyError("/b", 7, "oh")), False,
        "nothing is granted while there is a mistake: /b:7: oh",
    ),
    "root, denied there": (ROOT, conf(denies="all"), False, "/b:2 denies all"),
}  # fmt: skip


@pytest.mark.parametrize(("peer", "qemu", "allowed", "because"), BY_QEMU.values(), ids=BY_QEMU)
def test_bridge_conf_where_it_counts(
    peer: Peer, qemu: FixedConf, because: str, *, allowed: bool
) -> None:
    """What it denies is denied; what it allows, it allows to everybody."""
    decision = decide(peer, "br0", qemu=qemu)

    assert (allowed, because) == (decision.allowed, decision.because)


@pytest.mark.parametrize(
    ("denied", "bridge", "because"),
    [
        ("br0", "br0", "/p:2 (users.1001.deny) names 'br0'"),
        ("vm-*", "vm-3", "/p:2 (users.1001.deny) names 'vm-*', which fits 'vm-3'"),
        ("br9", "br0", "/p:4 (groups.107.bridges) names '*', which fits 'br0'"),
    ],
)
def test_what_is_denied_to_a_user_no_other_rule_allows(
    denied: str, bridge: str, because: str
) -> None:
    """Neither a group's, nor the user's own, nor QEMU's file."""
    text = f"[users.1001]\ndeny = ['{denied}']\n[groups.107]\nbridges = ['*']\n[qemu]\n"
    rules = parse_policy("/p", f"{text}bridge-conf = true\n", socket_gid=36)
    decision = decide_tap(
        rules, conf(allows="all"), ALICE_IN_KVM, bridge, is_network=False, queues=1
    )

    assert (denied == "br9", because) == (decision.allowed, decision.because)


RANGES = """\
[users.20000-29999]
bridges = ["br0", "br1"]
taps = 4

[users.21000]
bridges = ["br0"]
deny = ["br2"]
taps = 1

[users.21000-21999]
bridges = ["br0"]
taps = 2
"""


@pytest.mark.parametrize(
    ("uid", "taps", "key"),
    [
        (20000, 4, "users.20000-29999"),
        (21000, 1, "users.21000"),
        (21001, 2, "users.21000-21999"),
        (29999, 4, "users.20000-29999"),
        (30000, 16, ""),
        (19999, 16, ""),
    ],
)
def test_rule_of_a_range_is_each_uid_s(uid: int, taps: int, key: str) -> None:
    """Of its first and its last uid too; a uid's own rule and a smaller range count first."""
    rules = parse_policy("/p", RANGES, socket_gid=36)
    peer = Peer(uid, frozenset(), 1)
    decision = decide_tap(rules, conf(), peer, "br0", is_network=False, queues=1)

    assert (bool(key), taps) == (decision.allowed, taps_of(rules, peer))
    assert f"({key}.bridges)" in decision.because or not key


def test_larger_range_opens_what_the_smaller_does_not_name() -> None:
    """As the rules of groups do; and what a uid's own rule denies, no range allows."""
    text = f"{RANGES}[users.20999-21001]\nbridges = ['br2']\n"
    rules = parse_policy("/p", text, socket_gid=36)
    allowed = [
        decide_tap(
            rules, conf(), Peer(uid, frozenset(), 1), bridge, is_network=False, queues=1
        ).allowed
        for uid, bridge in ((21001, "br1"), (21001, "br2"), (21000, "br2"))
    ]

    assert [True, True, False] == allowed


def test_bridge_conf_gives_as_many_queues_as_the_quota() -> None:
    """It has no word for queues itself."""
    decisions = [decide(MALLORY, "br0", queues, qemu=conf(allows="br0")) for queues in (4, 5)]

    assert [True, False] == [decision.allowed for decision in decisions]
    assert decisions[1].because == "/p:32 (quota.queues-per-tap) allows 4 queues for a tap, not 5"


def test_bridge_conf_that_does_not_count_is_not_read() -> None:
    """Neither what it allows nor what it denies matters."""
    qemu = conf(allows="br0", denies="all")
    decisions = [
        decide_tap(policy(), qemu, p, "br0", is_network=False, queues=1) for p in (ALICE, MALLORY)
    ]

    assert ([True, False], 0) == ([decision.allowed for decision in decisions], qemu.asked)


@pytest.mark.privileged
def test_a_bridge_conf_on_disk_decides(roots_folder: Path) -> None:
    """The real reader is asked, and its line is named."""
    path = roots_folder / "bridge.conf"
    path.write_text("# ours\nallow br7\n")
    rules = policy(bridge_conf=True)
    decision = decide_tap(
        rules, BridgeConfFile(str(path)), MALLORY, "br7", is_network=False, queues=4
    )

    assert (True, f"{path}:2 allows 'br7'") == (decision.allowed, decision.because)


@pytest.mark.parametrize(
    ("name", "bridge", "allowed"),
    [("default", "virbr0", True), ("default/fast", "br0", True), ("gone", "nobr", False)],
)
def test_a_network_is_its_bridge(name: str, bridge: str, *, allowed: bool) -> None:
    """The same rules count as for the bridge itself."""
    decision = decide(BOB, name, is_network=True)

    assert (allowed, bridge) == (decision.allowed, decision.bridge)


@pytest.mark.parametrize("peer", [ALICE, ROOT])
@pytest.mark.parametrize("name", ["virbr0", "Default", "default/", "default/slow"])
def test_another_network_has_no_bridge(peer: Peer, name: str) -> None:
    """A bridge's name is not a network's, and a group has no other network to fall back to."""
    decision = decide(peer, name, is_network=True)

    assert decision[:4] == (False, f"/p:26 (networks) has no '{name}'", Code.NO_SUCH_BRIDGE, "")


def test_a_network_s_name_is_not_a_bridge_s() -> None:
    """Asked for as a bridge, it is one that nobody named."""
    assert not decide(ALICE, "default").allowed


def test_where_no_network_is_named_the_refusal_says_so() -> None:
    """There is no line to point at."""
    rules = parse_policy("/p", "", socket_gid=36)
    decision = decide_tap(rules, conf(), ALICE, "default", is_network=True, queues=1)

    assert (Code.NO_SUCH_BRIDGE, "/p has no [networks]") == (decision.code, decision.because)


@pytest.mark.parametrize("peer", [ALICE, ROOT])
@pytest.mark.parametrize("name", ["", "br0" + "x" * 13, "vm-%d", "vm-\n", "br0\0", "../br0"])
def test_a_name_is_checked_before_anything_uses_it(peer: Peer, name: str) -> None:
    """A pattern such as "vm-*" would fit some of them; uid 0 is told the same."""
    with pytest.raises(RequestError) as caught:
        decide(peer, name)

    assert caught.value.code == Code.NO_SUCH_BRIDGE


def test_a_network_s_name_is_checked_too() -> None:
    """It goes into messages and into the journal."""
    with pytest.raises(RequestError) as caught:
        decide(ALICE, "a\nb", is_network=True)

    assert caught.value.code == Code.NO_SUCH_BRIDGE


TAPS = {
    "the user's rule": (ALICE, 3),
    "the user's rule before a larger group's": (Peer(1001, frozenset({108, 109}), 1), 3),
    "the group's where the user's is silent": (Peer(1002, frozenset({108}), 1), 5),
    "the largest of the groups'": (Peer(1006, frozenset({107, 108, 109}), 1), 7),
    "the quota where no rule says it": (BOB, 16),
    "the quota where there is no rule": (MALLORY, 16),
    "root like anybody": (ROOT, 16),
}


@pytest.mark.parametrize(("peer", "taps"), TAPS.values(), ids=TAPS)
def test_how_many_taps_somebody_may_hold(peer: Peer, taps: int) -> None:
    """Asked on its own, and as a part of each decision."""
    assert (taps, taps) == (taps_of(policy(), peer), decide(peer, "br0").taps)


def test_a_user_may_be_allowed_no_tap_at_all() -> None:
    """None is a number, and no word that is missing."""
    rules = parse_policy("/p", "[users.1001]\ntaps = 0\n[groups.107]\ntaps = 9\n", socket_gid=36)

    assert taps_of(rules, ALICE_IN_KVM) == 0


PORTS = {
    "by its name, though a pattern stands first": ("br0", "bridges.br0", True, False),
    "by a pattern": ("br1", 'bridges."br*"', False, True),
    "by none": ("vm-1", "", False, False),
}


@pytest.mark.parametrize(("bridge", "key", "isolated", "locked"), PORTS.values(), ids=PORTS)
def test_how_a_tap_is_attached(bridge: str, key: str, *, isolated: bool, locked: bool) -> None:
    """Asked on its own, and as a part of each decision."""
    port = port_of(policy(), bridge)

    assert (key, isolated, locked) == (port.key, port.isolated, port.address_lock)
    assert port == decide(ROOT, bridge).port


def test_a_rule_s_word_on_the_port_beats_the_bridge_s() -> None:
    """For the bridges that the rule opens; what it does not say is left as the bridge has it."""
    text = (
        "[users.1001]\nbridges = ['br0']\naddress-lock = false\nbpdu-guard = true\n"
        "[groups.107]\nbridges = ['br1']\n[bridges.'br*']\naddress-lock = true\nisolated = true\n"
    )
    rules = parse_policy("/p", text, socket_gid=36)
    ports = [
        decide_tap(rules, conf(), ALICE_IN_KVM, bridge, is_network=False, queues=1).port
        for bridge in ("br0", "br1")
    ]

    assert [(False, True, True), (True, False, True)] == [
        (port.address_lock, port.bpdu_guard, port.isolated) for port in ports
    ]


@pytest.mark.parametrize(
    ("mac", "reasons"),
    [
        (None, ("", "", "")),
        ("525400000001", ("", "", "")),
        ("525400000101", ("/p:3 (users.1001.addresses) allows 52:54:00:00:00:01", "", "")),
        (
            "00005e000101",
            (
                "/p:3 (users.1001.addresses) allows 52:54:00:00:00:01 for cards, not",
                "/p:8 (bridges.br1.addresses) allows 52:54:00:00:00:00/24 for cards, not",
                "the default of 'addresses' allows locally administered addresses for cards, not",
            ),
        ),
    ],
)
def test_cards_have_the_addresses_that_policy_allows(
    mac: str | None, reasons: tuple[str, ...]
) -> None:
    """The rule's word beats the bridge's, and the reason has its line; without one any local."""
    text = (
        "[users.1001]\nbridges = ['br0']\naddresses = ['52:54:00:00:00:01']\n"
        "[groups.107]\nbridges = ['br1', 'br2']\n[bridges.br1]\naddress-lock = true\n"
        "addresses = ['52:54:00:00:00:00/24']\n[bridges.'br*']\naddress-lock = true\n"
    )
    rules = parse_policy("/p", text, socket_gid=36)
    octets = bytes.fromhex(mac) if mac else None
    decisions = [
        decide_tap(rules, conf(), ALICE_IN_KVM, f"br{n}", is_network=False, queues=1, mac=octets)
        for n in range(3)
    ]

    assert [not reason for reason in reasons] == [decision.allowed for decision in decisions]
    assert all(
        reason in decision.because for reason, decision in zip(reasons, decisions, strict=True)
    )


@pytest.mark.parametrize(
    ("written", "allowed"), [("addresses = ['52:54:00:00:00:00/24']", False), ("", True)]
)
def test_addresses_count_without_address_lock_too(written: str, *, allowed: bool) -> None:
    """Where policy has them; the default is only for locked ports."""
    rules = parse_policy("/p", f"[users.1001]\nbridges = ['br0']\n{written}\n", socket_gid=36)
    mac = bytes.fromhex("525401110001")
    found = decide_tap(rules, conf(), ALICE_IN_KVM, "br0", is_network=False, queues=1, mac=mac)

    assert found.allowed == allowed


def test_the_first_pattern_that_fits_counts() -> None:
    """In the file's order."""
    text = '[bridges."vm*"]\nisolated = true\n[bridges."*"]\naddress-lock = true\n'
    rules = parse_policy("/p", text, socket_gid=36)

    assert port_of(rules, "vm1") == Port('bridges."vm*"', "vm*", isolated=True)
