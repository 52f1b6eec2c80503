# SPDX-License-Identifier: LGPL-2.1-or-later
"""A group that a user leaves out when asking allows nothing, and binds nobody either.

A user with subordinate gids can do that in a user namespace, with setgroups(2). So what is to bind
a user stands in the bridge's table or in the user's own, and not in a group's alone.
"""

import pytest

from bpferry_wire.errors import Code
from bpferry_wire.messages import ErrorReply, TapReply
from tests.support.people import ALICE, SOCKET_GID, Person, ask_once
from tests.support.tap_process import running_tap_helper, tap_on

pytestmark = [pytest.mark.privileged, pytest.mark.kernel]

STUDENTS = 1_700_500
BOTH = ALICE._replace(groups=(STUDENTS,))

GROUPS = f"""
[groups.{STUDENTS}]
bridges = ["br0"]
address-lock = true
[groups.{SOCKET_GID}]
bridges = ["br0"]
"""
LOCK = "address-lock = true\n"


def outcome(policy: str, person: Person) -> type | Code:
    """Return what *person* gets who asks for a tap without the card's address."""
    with running_tap_helper(policy) as helper:
        answered = ask_once(helper.path, tap_on(), person)
    answered.fds.close()
    reply = answered.reply
    return reply.code if isinstance(reply, ErrorReply) else type(reply)


def test_who_leaves_a_group_out_is_not_bound_by_it() -> None:
    """The control: with the group, there is no tap without address-lock."""
    assert (outcome(GROUPS, ALICE), outcome(GROUPS, BOTH)) == (TapReply, Code.REFUSED)


@pytest.mark.parametrize("table", ['[bridges."br0"]', f"[users.{ALICE.uid}]\nbridges = ['br0']"])
def test_the_tables_of_the_bridge_and_the_user_bind(table: str) -> None:
    """Whatever groups there are."""
    policy = f"{GROUPS}{table}\n{LOCK}"

    assert (outcome(policy, ALICE), outcome(policy, BOTH)) == (Code.REFUSED, Code.REFUSED)
