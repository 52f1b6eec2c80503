# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the guest's driver sets up, reported as soon as it has.

The maps are polled a few times a second until the guest's driver has set RSS up and nothing changes
any more. There is no event to wait for: the guest's command goes to QEMU, which does not report it.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from bpferry.steering.maps import Steering
from bpferry.steering.view import Seen, describe

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
        look: Callable[[], Seen],
        note: Callable[[str], None],
        changed: Callable[[str, Steering], None],
        pace: Pace = USUAL,
    ) -> None:
        """Watch what *look* returns; *note* gets sentences, *changed* the values of the maps."""
        self._card_id = card_id
        self._look = look
        self._note = note
        self._changed = changed
        self._pace = pace
        self._last: Steering | None = None
        """What was reported last,"""
        self._sentence = ""
        """and in which words."""
        self._told = 0
        """How many sentences, since the steering was quiet."""
        self._again = asyncio.Event()

    def look_again(self) -> None:
        """Begin once more: something has happened after which the guest may change its settings."""
        self._again.set()

    async def wait(self) -> None:
        """Wait for look_again(), without polling."""
        await self._again.wait()

    async def settle(self) -> Seen:
        """Report what comes into force until it has settled, and return that.

        It has if nothing changes for a while after RSS was set up. A guest that does not set it up,
        or that changes it all the time, is given up after a longer while.
        """
        loop = asyncio.get_running_loop()
        begun = since = loop.time()
        before: Seen | None = None
        while True:
            seen = self._look()
            now = loop.time()
            if self._again.is_set():
                self._again.clear()
                begun = since = now
            if seen != before:
                since, before = now, seen
                self._report(seen)
            is_on = seen.steering is not None and seen.steering.redirect
            quiet = is_on and now - since >= self._pace.quiet_s
            if quiet:
                self._told = 0
            if quiet or now - begun >= self._pace.patience_s:
                return seen
            await asyncio.sleep(POLL_SECONDS)

    def _report(self, seen: Seen) -> None:
        steering = seen.steering
        if steering is None or not steering.redirect:
            return
        sentence = describe(self._card_id, steering, seen.switched_on)
        # QEMU fills the maps before it switches queues on, and leaves them as they are at a reset.
        if not seen.is_narrow and sentence != self._sentence:
            self._sentence = sentence
            self._tell(sentence)
        if steering != self._last:
            self._last = steering
            self._changed(self._card_id, steering)

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
