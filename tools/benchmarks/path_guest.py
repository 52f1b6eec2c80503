# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a packet to a real guest costs, by who picks the queue.

    one      a card with one queue
    ebpf     four queues with RSS; the program of QEMU's own object, by both helpers
    kernel   four queues without RSS: the tap's own flow steering
    user     four queues with RSS and without a program: QEMU's own code, in its main loop

Each is a VM that bpferry runs, with an emulated processor for each of four queues; all are on one
bridge in a network namespace, and get packets in turn (path_turns). QEMU reads the taps itself.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from benchmarks.handover import FOLDER
from benchmarks.interrupts import Interrupts
from benchmarks.path_guest_figures import QUEUES, STEERED, GuestFigures, Lane
from benchmarks.path_look import Sender
from benchmarks.path_turns import ready, take_turns
from benchmarks.yardstick import build
from guest.build import CACHE, Guest, build_guest
from guest.netns import Namespace, bridged
from steering_demo.helpers import activated_helpers
from steering_demo.play import explaining
from steering_demo.stations import MTU, Station
from steering_demo.vm import WITHOUT_A_CARD, Vm, client, started_vm, write_description
from steering_demo.workplace import BRIDGE, Workplace, workplace

RATE: Final = 2000
"""Packets a second, of which an emulated guest takes some ten thousand. In a flood the ring of a
queue is full, and QEMU that then finds no place for a packet from another queue was seen to read
that queue no more; so what steering in user space costs is only seen below that."""

CARD: Final = """
[[cards]]
bridge = "{bridge}"
mac = "{station.mac}"
"""


def measure(rounds: int, interrupts: Interrupts) -> GuestFigures:
    """Measure each lane once in each of *rounds* rounds.

    Raises:
        BenchError: something could not be started, or packets got lost.
        GuestError: a guest does not come up, or does not answer.
        Interrupted: on a signal, after everything has been stopped.
    """
    with _field() as (sender, machines):
        receivers = []
        for lane, machine in machines.items():
            interrupts.check()
            receivers.append(ready(lane, machine))
        return take_turns(sender, receivers, rounds, RATE, interrupts)


@contextmanager
def _field() -> Iterator[tuple[Sender, dict[Lane, Vm]]]:
    """Start the VM of each lane, and what sends to them."""
    guest = build_guest(CACHE, lambda _: None)
    with (
        tempfile.TemporaryDirectory(prefix="bpferry-bench-", dir=FOLDER) as name,
        workplace() as place,
        bridged(BRIDGE, [], MTU) as space,
        explaining(place),
        activated_helpers(place, space),
        ExitStack() as started,
    ):
        folder = Path(name)
        sender = Sender(build("send", folder), BRIDGE, space, folder)
        yield (
            sender,
            {
                lane: started.enter_context(_starting(place, space, guest, lane))
                for lane in map(Lane, STEERED)
            },
        )


@contextmanager
def _starting(place: Workplace, space: Namespace, guest: Guest, lane: Lane) -> Iterator[Vm]:
    """Start the VM of *lane*."""
    station = Station(lane.key, "", "", lane.card.hex(":"), QUEUES)
    text = f"{WITHOUT_A_CARD}{CARD}queues = {lane.queues}\nrss = {str(lane.rss).lower()}\n"
    # Without the helper that loads programs, QEMU is left to steer by itself.
    nobody = [f"BPFERRY_BPF_SOCKET={place.socket('nobody')}"] if lane.steered == "user" else []
    description = write_description(place, guest, station, text)
    argv = client(place, space, ["run", str(description)], nobody)
    with started_vm(argv, place.log(lane.key)) as machine:
        yield machine
