# SPDX-License-Identifier: LGPL-2.1-or-later
"""Count the packets of a VM's cards for a while."""

import time
from collections.abc import Sequence

from msgspec import Struct

from bpferry.errors import BadInput, NotRunning
from bpferry.machine.control.client import Control
from bpferry.machine.control.packets import records
from bpferry.steering.observed import Observed, from_fields
from bpferry.steering.plan import Notice
from bpferry.steering.remarks import Rates, remarks
from bpferry.steering.rings import Counter, Direction
from bpferry_wire.errors import BadMessage


class Measured(Struct, frozen=True):
    """One card at the end of an interval, and what went through its queues in it."""

    card: Observed
    seconds: float
    packets: dict[tuple[int, Direction], int]
    rates: Rates
    warnings: tuple[Notice, ...]


def card_ids(control: Control, wanted: str | None) -> list[str]:
    """Return the ids of the VM's cards, or only of the *wanted* one.

    Raises:
        BadInput: it has no such card.
    """
    ids = [str(card["id"]) for card in records(control.ask("status"), "cards")]
    if wanted is None:
        return ids
    if wanted not in ids:
        names = f"it has these: {', '.join(ids)}" if ids else "it has no card at all"
        raise BadInput(f"'{control.vm_name}' has no card '{wanted}'", names)
    return [wanted]


def observe(control: Control, card_id: str, *, quick: bool = False) -> Observed:
    """Return one card as it is now; for a quick look, only how far its rings are is sure.

    Raises:
        NotRunning: the VM has ended, or its bpferry is of another version.
    """
    try:
        return from_fields(control.ask("steering", card=card_id, quick=quick or None))
    except BadMessage as error:
        raise NotRunning(
            f"'{control.vm_name}' gave no valid answer: {error}",
            "bpferry was updated while the VM runs: start the VM again to use this",
        ) from error


class Meter:
    """Counts packets, from one interval to the next without a gap."""

    def __init__(self, control: Control, ids: Sequence[str]) -> None:
        self._control = control
        self._counters = {card_id: Counter() for card_id in ids}
        self._seen = {card_id: self._look(card_id) for card_id in ids}

    def measure(self, seconds: float) -> list[Measured]:
        """Return all cards, with what went through them in the next *seconds*."""
        for counter in self._counters.values():
            counter.restart()
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            pauses = (counter.pause(left) for counter in self._counters.values())
            pause = min(pauses, default=left)
            time.sleep(pause)
            if pause < left:
                for card_id in self._counters:
                    self._look(card_id, quick=True)
        # Only what is shown has to be complete.
        self._seen = {card_id: self._look(card_id) for card_id in self._counters}
        return [self._measured(card_id, card) for card_id, card in self._seen.items()]

    def _look(self, card_id: str, *, quick: bool = False) -> Observed:
        card = observe(self._control, card_id, quick=quick)
        self._counters[card_id].look(card.rings, card.time_ns)
        return card

    def _measured(self, card_id: str, card: Observed) -> Measured:
        counter = self._counters[card_id]
        rates = counter.rates()
        warnings = remarks(card, rates)
        return Measured(card, counter.nanoseconds / 1e9, dict(counter.packets), rates, warnings)
