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

COUNTED_AT_BOOT: Final = (
    "its driver sends the number of queues that it had at boot with each table, as in Linux 6.1: "
    "give the VM as many vCPUs as the card has queues"
)
"""Why fewer queues may be switched on than the table names: 'ethtool -X' sends max_tx_vq too, and
'ethtool -L' has not changed it (virtnet_init_default_rss, drivers/net/virtio_net.c)."""


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
    switched_on: int | None = None
    """How many queues of its tap the guest has switched on; None if that is not known."""

    @property
    def is_narrow(self) -> bool:
        """Whether fewer queues are switched on than the table names, as also after a reset."""
        if self.steering is None or self.switched_on is None:
            return False
        return self.steering.redirect and self.switched_on < self.steering.queues


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
    return _difference(plan, seen.steering, seen.switched_on)


def is_in_force(plan: CardPlan, seen: Seen) -> bool | None:
    """Return whether a card is steered as planned; None if that cannot be known from outside."""
    if plan.rung is Rung.NONE:
        return True
    fallback = _fallback_among(seen.lines)
    if plan.rung is Rung.QEMU:
        return False if fallback is not None and "user space" not in fallback else None
    if fallback is not None or (plan.queues > 1 and seen.switched_on == 1):
        return False
    return None if seen.steering is None else seen.steering.redirect


def _fallback_among(lines: Iterable[str]) -> str | None:
    return next(filter(None, map(describe_fallback, lines)), None)


def _difference(plan: CardPlan, steering: "Steering", switched_on: int | None) -> Notice | None:
    """Return how the maps and the tap of a card differ from what was planned."""
    if not steering.redirect:
        return Notice(
            f"{plan.card_id}: the plan was 'ebpf', but the guest has not set RSS up: {OWN_RULE}",
            "the guest's driver has no RSS (Linux has it since 5.18), or is not loaded",
        )
    if plan.queues == 1:
        return None
    return _too_few(plan, steering, switched_on) or _unnamed(plan, steering)


def _too_few(plan: CardPlan, steering: "Steering", switched_on: int | None) -> Notice | None:
    """Return what follows if too few queues are *switched_on* for the table."""
    if switched_on == 1:
        return Notice(
            f"{plan.card_id}: the plan was 'ebpf', but the guest has switched on one of "
            f"{plan.queues} queues: all packets go to queue 0, and nothing is steered",
            COUNTED_AT_BOOT if steering.queues > 1 else FEWER_QUEUES,
        )
    if switched_on is not None and switched_on < steering.queues:
        return Notice(
            f"{plan.card_id}: the guest's table names {steering.queues} queues, and it has "
            f"switched on {switched_on} of {plan.queues}: the others get no packets",
            COUNTED_AT_BOOT,
        )
    return None


def _unnamed(plan: CardPlan, steering: "Steering") -> Notice | None:
    """Return which queues get no packets as the guest has set RSS up."""
    if not steering.hash_types:
        return Notice(
            f"{plan.card_id}: the guest has set RSS up without any type of hash: all packets go "
            f"to queue {steering.default_queue}",
            "see 'ethtool -n' in the guest, and the settings of its driver",
        )
    if steering.queues == 1:
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


def describe(card_id: str, steering: "Steering", switched_on: int | None = None) -> str:
    """Say in one sentence how *card_id* is steered.

    With one queue that is *switched_on*, the kernel runs no program (netdev_core_pick_tx,
    net/core/dev.c); None if the number is not known.
    """
    if not steering.redirect:
        return f"{card_id}: the guest's driver has not set RSS up"
    if switched_on == 1:
        return f"{card_id}: nothing is steered, since only one queue is switched on"
    queues = _count(steering.queues, "queue")
    entries = _count(len(steering.table), "table entry", "table entries")
    return f"{card_id}: steering by eBPF in the host's kernel, {queues}, {entries}"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
