# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is seen of a card's steering while its VM runs, compared with its plan.

The maps are polled until the steering has settled (``steering.settling``), and again after an event
that may bring a change:

    RESET, RESUME           another boot, or a guest that continues
    NIC_RX_FILTER_CHANGED   a driver has come up: it says which addresses the card is to receive
    a request to look       such as ``bpferry steering``

Between them, a VM costs its supervisor no wake-up. QEMU sends NIC_RX_FILTER_CHANGED once, and again
only after query-rx-filter was asked (net/net.c), so a guest cannot flood us with it.
"""

import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Protocol

from bpferry.errors import QemuError
from bpferry.machine.reporter import Reporter
from bpferry.steering.plan import CardPlan
from bpferry.steering.settling import USUAL, Pace, Watch
from bpferry.steering.view import Seen, compare_plan

CHANGES: Final = frozenset({"RESET", "RESUME", "NIC_RX_FILTER_CHANGED"})
"""Events of QMP after which a guest may set up its cards (qapi/run-state.json, qapi/net.json)."""

Ask = Callable[[str, dict[str, object]], Awaitable[object]]
"""Sends QEMU a command with its arguments."""


class Sight(Protocol):
    """Where the steering of one card is seen."""

    def look(self) -> Seen:
        """Return its maps and its tap as they are now, without asking QEMU."""

    async def is_up(self) -> bool:
        """Return whether the guest's driver is up.

        Raises:
            QemuError: QEMU does not say.
        """


class CardWatch:
    """Watches one card for as long as its VM runs."""

    def __init__(
        self,
        plan: CardPlan,
        sight: Sight,
        reporter: Reporter,
        withdraw: Callable[[str], None],
        pace: Pace = USUAL,
    ) -> None:
        """Watch what is at *sight*; *withdraw* gets a warning that is not true any more."""
        self._plan = plan
        self._sight = sight
        self._reporter = reporter
        self._withdraw = withdraw
        self._watch = Watch(
            plan.card_id, sight.look, reporter.note, reporter.steering_changed, pace
        )
        self._told = ""
        """The warning that was given last."""

    def look_again(self) -> None:
        """Poll once more until the steering has settled."""
        self._watch.look_again()

    async def run(self, ask: Ask) -> None:
        """Watch, until cancelled."""
        while True:
            seen = await self._watch.settle()
            # A card that is no virtio card any more, or a QEMU that ends.
            with contextlib.suppress(QemuError):
                # A reset switches queues off, and leaves the maps as they were.
                if not seen.is_narrow or await self._sight.is_up():
                    self._compare(seen)
                await ask("query-rx-filter", {"name": self._plan.card_id})
            await self._watch.wait()

    def _compare(self, seen: Seen) -> None:
        notice = compare_plan(self._plan, seen)
        told, self._told = self._told, "" if notice is None else notice.message
        if told and told != self._told:
            self._withdraw(told)
        if notice is not None and notice.message != told:
            self._reporter.warn(notice.message, notice.hint)


def follow(event: str, watches: Iterable[CardWatch]) -> None:
    """Let all *watches* look again if an *event* of QMP may bring a change."""
    if event in CHANGES:
        for watch in watches:
            watch.look_again()
