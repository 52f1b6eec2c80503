# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may load objects, and the line that decides."""

import pytest

from bpferry_helper.identity import Peer
from bpferry_helper.policy.rules import Policy, may_load

ALLOWING = Policy(
    "/p", users=frozenset({7}), groups=frozenset({8}), lines={"load.users": 2, "load.groups": 3}
)


@pytest.mark.parametrize(
    ("uid", "gids", "because"),
    [
        (7, {1}, "/p:2 (load.users) names uid 7"),
        (9, {1, 8}, "/p:3 (load.groups) names group 8, which you are in"),
    ],
)
def test_who_is_named_may_load(uid: int, gids: set[int], because: str) -> None:
    """The answer names the line that decided."""
    assert (True, because) == may_load(ALLOWING, Peer(uid, frozenset(gids), 1))


@pytest.mark.parametrize("uid", [9, 0])
def test_who_is_not_named_may_not(uid: int) -> None:
    """The refusal names the line that would have to change; uid 0 is a user like others."""
    decision = may_load(ALLOWING, Peer(uid, frozenset({1}), 1))

    assert decision == (False, "/p:2 (load.users) names neither you nor your groups")
