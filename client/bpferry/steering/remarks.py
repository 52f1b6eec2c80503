# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is worth a warning about the queues of a card that runs, and what to do about it.

What differs from the plan is ``view.compare_plan``; this is the rest. That one queue is hot is a
heuristic: packets are counted by queue, and not by flow.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from bpferry.steering.observed import Observed
from bpferry.steering.plan import Notice, Rung
from bpferry.steering.rings import Direction

BUSY: Final = 1000.0
"""Packets a second, of all queues together, below which nothing is said about how they spread."""

HOT: Final = 2.0
"""A queue is hot if it gets so many times the share of packets that the table gives it,"""

MOST: Final = 0.5
"""and more than this share of all packets."""

Rates = Mapping[tuple[int, Direction], float]
"""Packets a second, by ring."""


def shares(table: tuple[int, ...]) -> dict[int, float]:
    """Return which share of *table* goes to each queue, by queue."""
    entries = Counter(table)
    return {queue: entries[queue] / len(table) for queue in sorted(entries)}


def remarks(card: Observed, rates: Rates | None = None) -> tuple[Notice, ...]:
    """Return all warnings about *card*; *rates* if they were measured."""
    found = [] if not card.difference else [Notice(card.difference, card.hint)]
    return (*found, *_about_design(card), *_about_table(card), *_about_packets(card, rates or {}))


def _about_design(card: Observed) -> Iterator[Notice]:
    if card.queues > card.vcpus:
        vcpus = f"{card.vcpus} vCPU{'' if card.vcpus == 1 else 's'}"
        yield Notice(
            f"{card.card_id}: it has {card.queues} queues, and the VM has {vcpus}: a Linux guest "
            "uses no more queues than it has vCPUs",
            f"give the VM {card.queues} vCPUs, or the card "
            f"{card.vcpus} queue{'' if card.vcpus == 1 else 's'}",
        )


def _about_table(card: Observed) -> Iterator[Notice]:
    steering = card.steering
    if steering is None or not steering.redirect:
        return
    strangers = sorted(queue for queue in set(steering.table) if queue >= card.queues)
    if strangers:
        yield Notice(
            f"{card.card_id}: the guest's table names queue {strangers[0]}, and the card has "
            f"{card.queues} queues: the kernel takes the remainder of a division by the queues "
            "that are in use",
            "set the table in the guest with 'ethtool -X'",
        )


def _about_packets(card: Observed, rates: Rates) -> Iterator[Notice]:
    received = {queue: rate for (queue, way), rate in rates.items() if way is Direction.RECEIVE}
    total = sum(received.values())
    several = len(received) > 1 and card.switched_on != 1
    if total < BUSY or not several:
        return
    queue, most = max(received.items(), key=lambda item: item[1])
    share = most / total
    planned = _planned(card)
    given = planned.get(queue, 0.0)
    if planned and not given and _is_elsewhere(card, queue):
        yield Notice(
            f"{card.card_id}: queue {queue} gets {share:.0%} of the packets, and the guest's "
            "table does not name it: QEMU was given the program and does not use it",
            "see 'bpferry status' for what QEMU has said, and the kernel's log",
        )
    elif given and share >= max(MOST, HOT * given):
        yield Notice(
            f"{card.card_id}: queue {queue} is hot: it gets {share:.0%} of the packets, and "
            f"{given:.0%} of the table: one flow or a few have most of the traffic, and a flow "
            "stays on its queue",
            "spread the traffic over more connections",
        )


def _planned(card: Observed) -> dict[int, float]:
    """Return the share of packets that each queue should get; empty if that is not known."""
    if card.rung is not Rung.EBPF or card.steering is None or not card.steering.redirect:
        return {}
    return shares(card.steering.table)


def _is_elsewhere(card: Observed, queue: int) -> bool:
    """Say whether *queue* should get no packets: packets that are not hashed have a queue too."""
    assert card.steering is not None  # noqa: S101 - the caller has looked
    known = all(entry < card.queues for entry in card.steering.table)
    return known and queue != card.steering.default_queue
