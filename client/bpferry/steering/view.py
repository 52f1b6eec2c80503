# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which steering is in force, in a sentence, and whether it is what was planned."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from bpferry.steering.plan import CardPlan, Notice, Rung

if TYPE_CHECKING:
    from bpferry.steering.maps import Steering

OWN_RULE: Final = "the host's kernel chooses queues by its own rule"
"""That is: the queue on which the guest sent the flow's last packet (drivers/net/tun.c)."""

FALLBACKS: Final = {
    "Can't load eBPF RSS - fallback to software RSS": "QEMU steers in user space",
    "Can't load eBPF RSS for vhost": OWN_RULE,
}
"""What QEMU says when it could not attach the program (hw/net/virtio-net.c, 9.0 to 11.1), and what
that means. It fills the maps all the same, so they alone would be misleading."""


FEWER_QUEUES: Final = (
    "the guest has fewer processors than the card has queues, or somebody has set that with "
    "'ethtool -L' or 'ethtool -X' there"
)
"""Why a table may name fewer queues than the card has."""


def describe_fallback(line: str) -> str | None:
    """Say what QEMU's *line* means if it contradicts the maps; otherwise None."""
    for words, consequence in FALLBACKS.items():
        if words in line:
            return f"QEMU could not attach the eBPF program: {consequence}"
    return None


class Seen(Struct, frozen=True):
    """What is known of one card of a running VM."""

    steering: "Steering | None" = None
    """What its maps contain; None if it has no maps."""
    lines: tuple[str, ...] = ()
    """What QEMU has written. It does not say which card a line is about."""


def compare_plan(plan: CardPlan, seen: Seen) -> Notice | None:
    """Return what differs from *plan* in what is *seen*, with its likely cause; None if nothing.

    Call it once the guest's driver has had enough time; before that, no guest has set up RSS.
    """
    if plan.rung is Rung.NONE:
        return None
    fallback = _fallback_among(seen.lines)
    if fallback is not None and (plan.rung is Rung.EBPF or "user space" not in fallback):
        cause = (
            "QEMU 10.1 and newer ignores the program of a card with vhost: use the driver 'qemu'"
            if plan.vhost
            else "the kernel or a security module did not let QEMU attach the program to the tap: "
            "see the kernel's log"
        )
        return Notice(f"{plan.card_id}: the plan was '{plan.rung}', but {fallback}", cause)
    if plan.rung is not Rung.EBPF or seen.steering is None:
        return None
    return _difference(plan, seen.steering)


def is_in_force(plan: CardPlan, seen: Seen) -> bool | None:
    """Return whether a card is steered as planned; None if that cannot be known from outside."""
    if plan.rung is Rung.NONE:
        return True
    fallback = _fallback_among(seen.lines)
    if plan.rung is Rung.QEMU:
        return False if fallback is not None and "user space" not in fallback else None
    if fallback is not None:
        return False
    return None if seen.steering is None else seen.steering.redirect


def _fallback_among(lines: Iterable[str]) -> str | None:
    return next(filter(None, map(describe_fallback, lines)), None)


def _difference(plan: CardPlan, steering: "Steering") -> Notice | None:
    """Return how the maps of a card differ from what was planned."""
    if not steering.redirect:
        return Notice(
            f"{plan.card_id}: the plan was 'ebpf', but the guest has not set RSS up: {OWN_RULE}",
            "the guest's driver has no RSS (Linux has it since 5.18), or is not loaded",
        )
    if not steering.hash_types and plan.queues > 1:
        return Notice(
            f"{plan.card_id}: the guest has set RSS up without any type of hash: all packets go "
            f"to queue {steering.default_queue}",
            "see 'ethtool -n' in the guest, and the settings of its driver",
        )
    if steering.queues == 1 and plan.queues > 1:
        return Notice(
            f"{plan.card_id}: all entries of the guest's table point at queue {steering.table[0]}",
            FEWER_QUEUES,
        )
    if steering.queues < plan.queues:
        return Notice(
            f"{plan.card_id}: the guest's table names {steering.queues} of {plan.queues} queues",
            FEWER_QUEUES,
        )
    return None


def describe(card_id: str, steering: "Steering") -> str:
    """Say in one sentence how *card_id* is steered."""
    if not steering.redirect:
        return f"{card_id}: the guest's driver has not set RSS up"
    queues = _count(steering.queues, "queue")
    entries = _count(len(steering.table), "table entry", "table entries")
    return f"{card_id}: steering by eBPF in the host's kernel, {queues}, {entries}"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
