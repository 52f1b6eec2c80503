# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which steering is in force, in a sentence, as soon as the guest's driver has set it up.

The maps are looked at a few times a second. That costs some microseconds, and there is no event to
wait for: the guest's command goes to QEMU, which has no message for it.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from bpferry.steering.maps import Steering, SteeringMaps

POLL_SECONDS: Final = 0.25
"""One look takes about 20 us."""

PATIENCE_SECONDS: Final = 60.0
"""A guest without KVM takes up to half of that to bring its card up."""


OWN_RULE: Final = "the host's kernel chooses queues by its own rule"
"""Which is: the queue that the guest sent the flow's last packet on (drivers/net/tun.c)."""

FALLBACKS: Final = {
    "Can't load eBPF RSS - fallback to software RSS": "QEMU steers in user space",
    "Can't load eBPF RSS for vhost": OWN_RULE,
}
"""What QEMU says when it could not attach the program (hw/net/virtio-net.c, 9.0 to 11.1), and what
that means. It fills the maps all the same, so that they alone would tell a lie."""


def describe_fallback(line: str) -> str | None:
    """Say what follows from *line* of QEMU's if it takes back what the maps say; else None."""
    for words, consequence in FALLBACKS.items():
        if words in line:
            return f"QEMU could not attach the eBPF program: {consequence}"
    return None


def describe(card_id: str, steering: Steering) -> str:
    """Say in one sentence how *card_id* is steered."""
    if not steering.redirect:
        return f"{card_id}: the guest's driver has not set RSS up"
    queues = _count(steering.queues, "queue")
    entries = _count(len(steering.table), "table entry", "table entries")
    return f"{card_id}: steering by eBPF in the host's kernel, {queues}, {entries}"


def describe_waiting(card_id: str, seconds: float) -> str:
    """Say that nothing has come for *seconds*, and what that may mean."""
    return (
        f"{card_id}: the guest's driver has not set RSS up after {seconds:g} s; until it does, "
        f"{OWN_RULE}"
    )


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


async def watch(
    card_id: str,
    maps: SteeringMaps,
    note: Callable[[str], None],
    changed: Callable[[str, Steering], None],
    patience_s: float = PATIENCE_SECONDS,
) -> None:
    """Tell *note* in sentences, and *changed* in values, what comes into force, until cancelled."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    last: Steering | None = None
    waited = False
    while True:
        steering = maps.read()
        if steering.redirect and steering != last:
            if last is None or describe(card_id, last) != describe(card_id, steering):
                note(describe(card_id, steering))
            changed(card_id, steering)
            last = steering
        if last is None and not waited and loop.time() >= deadline:
            note(describe_waiting(card_id, patience_s))
            waited = True
        await asyncio.sleep(POLL_SECONDS)
