# SPDX-License-Identifier: LGPL-2.1-or-later
"""Numbers have names beside them, in what a user is told and in the journal."""

import pytest

from bpferry_helper.identity import Peer
from bpferry_helper.policy.rules import Policy, may_load
from bpferry_wire.messages import ErrorReply
from tests.support.people import ALICE, BOB, ask_once
from tests.support.tap_process import granted, running_tap_helper, tap_on

POLICY = f'[users.{ALICE.uid}]\nbridges = ["br0"]\n'


@pytest.mark.privileged
def test_a_refusal_and_the_journal_name_the_user() -> None:
    """One whom policy names, and one whom it does not; and to whom a tap was granted."""
    with running_tap_helper(POLICY, bridges=("br0", "br1")) as helper:
        refusals = [ask_once(helper.path, tap_on("br1"), who).reply for who in (ALICE, BOB)]
        granted(helper, tap_on())[1].close()
        said = helper.log()
    names = [f"uid {who.uid} (person{who.uid})" for who in (ALICE, BOB)]

    for name, reply in zip(names, refusals, strict=True):
        assert isinstance(reply, ErrorReply)
        assert f"{name} may not have a tap on 'br1'" in reply.message
        assert f"refused for {name} (pid " in said
    assert f"granted to {names[0]} (pid " in said


def test_the_group_that_decides_has_its_name() -> None:
    """As far as the host has one."""
    policy = Policy("/p", frozenset(), frozenset({108, 7}), group_names={108: "vms"})
    said = [may_load(policy, Peer(1, frozenset({gid}), 1)).because for gid in (108, 7)]

    assert "names group 108 (vms), which you are in" in said[0]
    assert "names group 7, which you are in" in said[1]


def test_a_user_without_a_known_name_is_a_number() -> None:
    """No empty brackets."""
    assert ("uid 7", "uid 7 (eve)") == tuple(
        Peer(7, frozenset(), 1, name=name).who for name in ("", "eve")
    )
