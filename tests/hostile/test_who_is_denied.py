# SPDX-License-Identifier: LGPL-2.1-or-later
"""What policy denies to a name stays denied while nobody can say whose name that is."""

from pathlib import Path
from typing import Final

import pytest

from bpferry_helper.identity import Peer
from bpferry_helper.policy.file import read_policy
from bpferry_helper.policy.rules import Policy
from bpferry_helper.tap.bridge_conf import BridgeConf
from bpferry_helper.tap.permission import TapDecision, decide_tap
from bpferry_wire.errors import Code
from bpferry_wire.messages import ErrorReply
from tests.support.helper_process import passwd
from tests.support.people import ALICE, BOB, SOCKET_GID, ask_once
from tests.support.tap_process import running_tap_helper, tap_on

GONE: Final = "gone"
DENIED: Final = f"""\
[users.{GONE}]
deny = ["br0"]
taps = 1
[groups.{SOCKET_GID}]
bridges = ["*"]
"""


class NoConf:
    """No /etc/qemu/bridge.conf."""

    def current(self) -> BridgeConf:
        """Return it."""
        return BridgeConf("/etc/qemu/bridge.conf")


def decided(policy: Policy, name: str, bridge: str = "br0") -> TapDecision:
    """Decide on a member of the group who is called *name*."""
    peer = Peer(5, frozenset({SOCKET_GID}), 1, name=name)
    return decide_tap(policy, NoConf(), peer, bridge, is_network=False, queues=1)


@pytest.fixture
def policy(roots_folder: Path) -> Policy:
    """Return the policy as it is read while nobody is called GONE."""
    path = roots_folder / "policy.toml"
    path.write_text(DENIED)
    return read_policy(str(path), SOCKET_GID)


@pytest.mark.parametrize(
    ("name", "bridge", "allowed"),
    [(GONE, "br0", False), ("", "br0", False), ("bob", "br0", True), ("", "br1", True)],
    ids=["that name", "a name that is not known either", "another name", "another bridge"],
)
def test_a_deny_for_a_name_that_is_not_known_counts_for_who_may_be_meant(
    policy: Policy,
    name: str,
    bridge: str,
    allowed: bool,  # noqa: FBT001 - a parameter
) -> None:
    """The control: if the rule is left out, as it was before, all of them get their taps."""
    skipped = decided(policy._replace(unknown=()), name, bridge)

    assert (allowed, True) == (decided(policy, name, bridge).allowed, skipped.allowed)


def test_the_whole_rule_counts_for_who_has_that_name(policy: Policy) -> None:
    """Not only what it denies. The control: for another it does not."""
    taps = [decided(policy, name, "br1").taps for name in (GONE, "bob")]

    assert taps == [1, policy.taps_per_user]


def test_who_may_be_meant_is_told_the_line(policy: Policy) -> None:
    """And why it counts."""
    because = decided(policy, "").because

    assert "users.gone.deny) names 'br0', for a user that this host does not have" in because


@pytest.mark.privileged
@pytest.mark.kernel
@pytest.mark.parametrize("is_known", [True, False])
def test_a_user_whose_name_is_lost_gets_no_denied_bridge(*, is_known: bool) -> None:
    """Policy lets her in by her number, and denies by her name. The control: Bob, who has one."""
    hers = f"person{ALICE.uid}"
    names = passwd()
    lines = [line for line in names.splitlines() if is_known or not line.startswith(hers)]
    text = f"[load]\nusers = [{ALICE.uid}]\n{DENIED.replace(GONE, hers)}"
    with running_tap_helper(text, etc={"passwd": "\n".join(lines) + "\n"}) as helper:
        answers = [ask_once(helper.path, tap_on(queues=1), who) for who in (ALICE, BOB)]
        for each in answers:
            each.fds.close()

    assert [Code.REFUSED, None] == [
        each.reply.code if isinstance(each.reply, ErrorReply) else None for each in answers
    ]
