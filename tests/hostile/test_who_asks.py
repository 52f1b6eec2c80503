# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who asks: being somebody else, or many."""

import pytest

from bpferry_wire.errors import Code
from bpferry_wire.messages import ErrorReply, Load
from tests.support.helper_process import NO_LIMITS, running_helper
from tests.support.people import ALICE, ROOT, ask_once
from tests.support.tap_process import OPEN_POLICY, running_tap_helper, tap_on

pytestmark = [pytest.mark.privileged, pytest.mark.kernel]

ROOTS_RULE = "[users.root]\nbridges = ['br0']\n"

# -- uid 0 without a capability, as in a container that the socket was bound into


@pytest.mark.parametrize(("more", "granted"), [("", False), (ROOTS_RULE, True)])
def test_uid_0_has_only_the_bridges_that_policy_gives_it(more: str, *, granted: bool) -> None:
    """The control: with a rule of its own it gets one."""
    with running_tap_helper(OPEN_POLICY + more, bridges=("br0", "br1")) as helper:
        answered = [ask_once(helper.path, tap_on(bridge), ROOT) for bridge in ("br0", "br1")]
        for each in answered:
            each.fds.close()

    refused = [isinstance(each.reply, ErrorReply) for each in answered]
    assert [not granted, True] == refused


@pytest.mark.parametrize(
    ("policy", "code"),
    [(NO_LIMITS, Code.REFUSED), (f"{NO_LIMITS}[load]\nusers = [0]\n", Code.UNKNOWN_OBJECT)],
)
def test_uid_0_loads_only_what_policy_gives_it(policy: str, code: Code) -> None:
    """The control: named there, it is only the object that is not known."""
    with running_helper(policy) as helper:
        reply = ask_once(helper.path, Load("rss", bytes(32)), ROOT).reply
        other = ask_once(helper.path, Load("rss", bytes(32)), ALICE).reply

    assert isinstance(reply, ErrorReply)
    assert isinstance(other, ErrorReply)
    assert code == reply.code
    assert (Code.UNKNOWN_OBJECT if policy == NO_LIMITS else Code.REFUSED) == other.code
