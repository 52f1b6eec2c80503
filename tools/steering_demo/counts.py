# SPDX-License-Identifier: LGPL-2.1-or-later
"""Packets by receive queue: as ``bpferry steering`` counts them, and as the guest does.

Neither knows of the other: one reads the card's rings from outside, the other is the guest's own
driver.
"""

import json
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from guest.console import Console

WATCH: Final = ("--watch", "--json", "--interval", "0.5")
"""What to add to ``bpferry steering NAME`` to follow its counts."""

STRAY: Final = 2
"""A neighbour may ask for an address at any time, and be counted on one side only."""

Queues = dict[int, int]


@contextmanager
def watched(argv: Sequence[str]) -> Iterator[Iterator[Queues]]:
    """Let ``bpferry steering --watch`` run as *argv*; yield what was received in each interval."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as watching:
        assert watching.stdout is not None  # noqa: S101 - asked for above
        try:
            yield map(_received, watching.stdout)
        finally:
            watching.terminate()


def _received(line: bytes) -> Queues:
    (card,) = json.loads(line)["cards"]
    return {queue["queue"]: queue["receive"]["packets"] for queue in card["queues"]}


def until_quiet(counts: Iterator[Queues], packets: int) -> Queues:
    """Return what comes in by queue, from now until it is *packets* and no more comes."""
    total: Counter[int] = Counter()
    for interval in counts:
        total.update(interval)
        if sum(total.values()) >= packets and not any(interval.values()):
            return dict(total)
    raise AssertionError(f"the watch ended: {total}")


def counters(console: Console) -> Queues:
    """Return packets by queue, as ``ethtool -S`` in the guest shows them."""
    queues = console.ask("counters")["queues"]
    assert isinstance(queues, dict)  # noqa: S101 - the agent is ours
    return {int(queue): int(count) for queue, count in queues.items()}


def agree(guest: Queues, counted: Queues) -> bool:
    """Return whether what the *guest* counted is what was *counted* outside, queue by queue."""
    return all(
        abs(guest.get(queue, 0) - counted.get(queue, 0)) <= STRAY for queue in guest | counted
    )
