# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMs that get packets in turn, wherever they run: what is looked at, in which order.

First where the packets of each flow arrive. Then, in each round and for each VM, an even rate, for
what a packet costs; and a flood, for how many packets there can be. A card that QEMU steers gets
its flood at the end, since it may be of no use afterwards.
"""

from typing import Final

from benchmarks.interrupts import Interrupts
from benchmarks.path_guest_figures import GuestFigures, Lane
from benchmarks.path_look import (
    NO_CHOICE,
    Receiver,
    Sender,
    as_asked_percent,
    asked,
    look,
    stops_after,
    tap_of,
)
from benchmarks.progress import show_progress
from bpferry.steering.maps import Steering
from steering_demo.vm import Machine

SECONDS: Final = 2.0
"""Of each look."""

BOOT_SECONDS: Final = 600.0
"""It takes ten, and much longer on a host that is busy with other guests."""


def ready(lane: Lane, machine: Machine) -> Receiver:
    """Wait for the guest of *machine*, and let it ask for what its *lane* is about."""
    console = machine.console
    console.wait_until_ready(BOOT_SECONDS)
    console.ask("channels", count=lane.queues)
    if lane.rss:
        # Some drivers ask for RSS only when somebody sets the table.
        console.ask("equal", queues=lane.queues)
    return Receiver(lane, machine, tap_of(machine.qemu_pid()))


def take_turns(
    sender: Sender, receivers: list[Receiver], rounds: int, rate: int, interrupts: Interrupts
) -> GuestFigures:
    """Look twice at each of *receivers*, whose lanes differ, in each of *rounds* rounds.

    It gets *rate* packets a second, and then as many as it takes.
    """
    figures = GuestFigures()
    _look_where(figures, sender, receivers)
    for done in range(rounds):
        show_progress("rounds", done, rounds)
        for receiver in receivers:
            interrupts.check()
            lane = receiver.lane
            figures.looks.setdefault(lane, []).append(look(sender, receiver, rate, SECONDS))
            if lane.steered != "user":
                figures.floods.setdefault(lane, []).append(look(sender, receiver, 0, SECONDS))
    show_progress("rounds", rounds, rounds)
    (user,) = (each for each in receivers if each.lane.steered == "user")
    figures.stopped = stops_after(sender, user)
    return figures


def _look_where(figures: GuestFigures, sender: Sender, receivers: list[Receiver]) -> None:
    """Look where packets arrive, and let no guest record that any more."""
    wanted = asked(next(each.console for each in receivers if each.lane.steered == "ebpf"))
    for receiver in receivers:
        own = _own_wish(receiver, wanted)
        figures.as_asked[receiver.lane] = as_asked_percent(sender, receiver, own)
        receiver.console.ask("record", on=False)


def _own_wish(receiver: Receiver, wanted: Steering) -> Steering:
    """Return what the guest asks for, or else what it would: *wanted*, where it has a choice."""
    if receiver.lane.rss:
        return asked(receiver.console)
    return wanted if receiver.lane.queues > 1 else NO_CHOICE
