# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the helpers, bpferry steering and the guest answer while the first guest runs."""

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from bpferry_wire.messages import Quota, QuotaReply
from guest.console import Console
from guest.netns import Namespace
from steering_demo.stations import FIRST
from steering_demo.vm import client
from steering_demo.workplace import BRIDGE, Workplace
from tests.support.people import ROOT, ask_once


def ports_of(space: Namespace) -> list[str]:
    """Return the ports of the bridge, by name."""
    shown = space.run(["ip", "-json", "link", "show", "master", BRIDGE])
    return sorted(link["ifname"] for link in json.loads(shown or "[]") if link)


def grants_of(place: Workplace, role: str) -> int:
    """Return how many grants the helper says are alive."""
    answered = ask_once(place.socket(role), Quota(), ROOT)
    assert isinstance(answered.reply, QuotaReply)
    return answered.reply.held_by_all


@contextmanager
def watched(place: Workplace, space: Namespace) -> Iterator[Iterator[dict[int, int]]]:
    """Let ``bpferry steering --watch`` run; yield what was received, by interval and queue."""
    words = ["steering", FIRST.name, "--watch", "--json", "--interval", "0.5"]
    with subprocess.Popen(client(place, space, words), stdout=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        try:
            yield map(_received, watching.stdout)
        finally:
            watching.terminate()


def _received(line: bytes) -> dict[int, int]:
    (card,) = json.loads(line)["cards"]
    return {queue["queue"]: queue["receive"]["packets"] for queue in card["queues"]}


def until_quiet(counts: Iterator[dict[int, int]], packets: int) -> dict[int, int]:
    """Return what comes in by queue, from now until it is *packets* and no more comes."""
    total: Counter[int] = Counter()
    for interval in counts:
        total.update(interval)
        if sum(total.values()) >= packets and not any(interval.values()):
            return total
    raise AssertionError(f"the watch ended: {total}")


def counters(console: Console) -> dict[int, int]:
    """Return packets by queue, as ``ethtool -S`` in the guest shows them."""
    queues = console.ask("counters")["queues"]
    assert isinstance(queues, dict)
    return {int(queue): int(count) for queue, count in queues.items()}
