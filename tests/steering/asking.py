# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the helpers and bpferry steering answer while the first guest runs."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager

from bpferry_wire.messages import Quota, QuotaReply
from guest.netns import Namespace
from steering_demo import counts
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


def watched(place: Workplace, space: Namespace) -> AbstractContextManager[Iterator[counts.Queues]]:
    """Let ``bpferry steering --watch`` run; yield what was received, by interval and queue."""
    return counts.watched(client(place, space, ["steering", FIRST.name, *counts.WATCH]))
