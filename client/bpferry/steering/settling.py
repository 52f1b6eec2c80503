# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the guest's driver sets up, reported as soon as it has.

The maps are polled a few times a second until the guest's driver has set RSS up and nothing changes
any more. There is no event to wait for: the guest's command goes to QEMU, which does not report it.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from bpferry.steering.maps import Steering, SteeringMaps
from bpferry.steering.view import describe

POLL_SECONDS: Final = 0.25
"""One look takes about 20 us."""

MAX_TOLD: Final = 8
"""Changes that are told before the steering is quiet: a boot has two or three."""

PATIENCE_SECONDS: Final = 60.0
"""A guest without KVM takes up to half of that time to bring its card up."""

QUIET_SECONDS: Final = 10.0
"""How long nothing has to change once the guest's driver has set RSS up. Linux and its services
are done with a card some seconds after it appeared."""


class Pace(Struct, frozen=True):
    """How long the maps of a card are polled, in seconds."""

    quiet_s: float = QUIET_SECONDS
    patience_s: float = PATIENCE_SECONDS


USUAL: Final = Pace()


class Watch:
    """Reports what comes into force on one card."""

    def __init__(
        self,
        card_id: str,
        maps: SteeringMaps,
        note: Callable[[str], None],
        changed: Callable[[str, Steering], None],
        pace: Pace = USUAL,
    ) -> None:
        """Watch *maps*, which are borrowed; *note* gets sentences, *changed* the values."""
        self._card_id = card_id
        self._maps = maps
        self._note = note
        self._changed = changed
        self._pace = pace
        self._last: Steering | None = None
        """What was reported last."""
        self._told = 0
        """How many sentences, since the steering was quiet."""
        self._again = asyncio.Event()

    def look_again(self) -> None:
        """Begin once more: something has happened after which the guest may change its settings."""
        self._again.set()

    async def wait(self) -> None:
        """Wait for look_again(), without polling."""
        await self._again.wait()

    async def settle(self) -> Steering:
        """Report what comes into force until it has settled, and return that.

        It has if nothing changes for a while after RSS was set up. A guest that does not set it up,
        or that changes it all the time, is given up after a longer while.
        """
        loop = asyncio.get_running_loop()
        begun = since = loop.time()
        before: Steering | None = None
        while True:
            steering = self._maps.read()
            now = loop.time()
            if self._again.is_set():
                self._again.clear()
                begun = since = now
            if steering != before:
                since, before = now, steering
                self._report(steering)
            quiet = steering.redirect and now - since >= self._pace.quiet_s
            if quiet:
                self._told = 0
            if quiet or now - begun >= self._pace.patience_s:
                return steering
            await asyncio.sleep(POLL_SECONDS)

    def _report(self, steering: Steering) -> None:
        if not steering.redirect or steering == self._last:
            return
        sentence = describe(self._card_id, steering)
        if self._last is None or describe(self._card_id, self._last) != sentence:
            self._tell(sentence)
        self._changed(self._card_id, steering)
        self._last = steering

    def _tell(self, sentence: str) -> None:
        """Tell the user a sentence, unless the guest makes too many of them."""
        self._told += 1
        if self._told <= MAX_TOLD:
            self._note(sentence)
        elif self._told == MAX_TOLD + 1:
            self._note(
                f"{self._card_id}: its guest changes the steering again and again; what it changes "
                "is not told until it keeps one"
            )
