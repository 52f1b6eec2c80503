# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is seen of a card that runs, held against its plan."""

import pytest
from msgspec.structs import replace

from bpferry.steering.maps import Steering
from bpferry.steering.plan import CardPlan, Rung
from bpferry.steering.toeplitz import HashType
from bpferry.steering.view import FALLBACKS, Seen, compare_plan

PLAN = CardPlan("net0", Rung.EBPF, vhost=False, queues=4, because=("it can",))
BY_QEMU = replace(PLAN, rung=Rung.QEMU)
NONE = replace(PLAN, rung=Rung.NONE)

GOOD = Steering(
    redirect=True,
    hash_types=HashType.IPV4 | HashType.TCPV4,
    key=bytes(40),
    table=(0, 1, 2, 3) * 32,
    default_queue=0,
)
SOFT, FOR_VHOST = (f"qemu-system-x86_64: warning: {words}" for words in FALLBACKS)


@pytest.mark.parametrize(
    ("plan", "seen"),
    [
        (PLAN, Seen(GOOD)),
        (PLAN, Seen(GOOD, ("qemu: warning: something else",))),
        (PLAN, Seen(None)),
        (BY_QEMU, Seen(None, (SOFT,))),
        (NONE, Seen(None, (SOFT, FOR_VHOST))),
        (replace(PLAN, queues=1), Seen(replace(GOOD, table=(0,)))),
        (replace(PLAN, queues=1), Seen(replace(GOOD, table=(0,)), switched_on=1)),
        (PLAN, Seen(GOOD, switched_on=4)),
    ],
)
def test_what_came_true_is_not_a_warning(plan: CardPlan, seen: Seen) -> None:
    """A card that is steered as planned, or of which nothing is known, gives no notice."""
    assert compare_plan(plan, seen) is None


@pytest.mark.parametrize(
    ("plan", "seen", "what", "cause"),
    [
        (PLAN, Seen(GOOD, (SOFT,)), "but QEMU could not attach", "security module"),
        (replace(PLAN, vhost=True), Seen(GOOD, (FOR_VHOST,)), "by its own rule", "10.1 and newer"),
        (BY_QEMU, Seen(None, (FOR_VHOST,)), "the plan was 'qemu', but", "security module"),
        (PLAN, Seen(replace(GOOD, redirect=False)), "the guest has not set RSS up", "no RSS"),
        (PLAN, Seen(replace(GOOD, hash_types=HashType(0))), "go to queue 0", "ethtool -n"),
        (PLAN, Seen(replace(GOOD, table=(0, 1))), "2 of 4 queues", "fewer processors"),
        (PLAN, Seen(GOOD, switched_on=1), "but the guest has switched on one of 4", "at boot"),
        (PLAN, Seen(GOOD, switched_on=2), "has switched on 2 of 4: the others", "at boot"),
        (
            PLAN,
            Seen(replace(GOOD, table=(0,)), switched_on=1),
            "all packets go to queue 0, and nothing is steered",
            "fewer processors",
        ),
    ],
)
def test_difference_has_its_likely_cause(plan: CardPlan, seen: Seen, what: str, cause: str) -> None:
    """What differs is one line about the card, with what may be behind it."""
    notice = compare_plan(plan, seen)

    assert notice is not None
    assert notice.message.startswith("net0: ")
    assert what in notice.message
    assert cause in notice.hint
