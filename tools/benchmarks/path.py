# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the host spends on a packet to a tap with several queues, by who picks the queue.

    ebpf     the program of QEMU's own object, with the maps that a guest's driver would have set
    kernel   the tap's own flow steering
    user     the same, and RSS's hash in the program that reads the queues: a stand-in, in C, for
             QEMU without a program

A network namespace plays the host: a sender writes to a bridge, and one thread for each queue reads
(path.c). There is no guest and no QEMU. All take turns, and are compared with one queue.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.command import BenchError
from benchmarks.handover import FOLDER
from benchmarks.interrupts import Interrupts
from benchmarks.object import OBJECT_ID, find_object
from benchmarks.path_figures import FAMILIES, QUEUES, STEERED, Lane, PathFigures, Run
from benchmarks.path_plan import plan, steering
from benchmarks.progress import show_progress
from benchmarks.yardstick import Yardstick, build, started_by
from bpferry.steering import maps
from bpferry_helper.bpf.loader import load
from guest.netns import Namespace, bridged

PACKETS: Final = 20_000
"""In one run: some 50 ms."""

BRIDGE: Final = "br0"
MTU: Final = 1500
CARD: Final = "525400000100"
"""The address of the first lane's guest, in hexadecimal digits."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where lanes are made: the host that is played, a folder, and the two programs."""

    space: Namespace
    folder: Path
    program: Path
    elf: bytes


def measure(rounds: int, interrupts: Interrupts) -> PathFigures:
    """Measure each lane once in each of *rounds* rounds.

    Raises:
        BenchError: something could not be started, or packets got lost.
        Interrupted: on a signal, after everything has been stopped.
    """
    figures = PathFigures()
    with _lanes() as lanes:
        # The first packets of a tap find nothing in a cache.
        for yardstick in lanes.values():
            yardstick.ask_ns(PACKETS)
        for done in range(rounds):
            show_progress("packets", done, rounds)
            for lane, yardstick in lanes.items():
                interrupts.check()
                figures.of(lane).append(Run(PACKETS, *yardstick.ask_ns(PACKETS)))
        show_progress("packets", rounds, rounds)
    return figures


@contextmanager
def _lanes() -> Iterator[dict[Lane, Yardstick]]:
    """Start what measures each lane, in the order in which they take turns."""
    with (
        tempfile.TemporaryDirectory(prefix="bpferry-bench-", dir=FOLDER) as name,
        bridged(BRIDGE, [], MTU) as space,
        ExitStack() as started,
    ):
        site = Site(space, Path(name), build("path", Path(name)), find_object().elf)
        yield {
            lane: started.enter_context(_lane(site, lane, number))
            for number, lane in enumerate(
                Lane(family, steered, queues)
                for family in FAMILIES
                for queues in QUEUES
                for steered in STEERED
            )
        }


@contextmanager
def _lane(site: Site, lane: Lane, number: int) -> Iterator[Yardstick]:
    tap = f"tap{number}"
    card = (int(CARD, 16) + number).to_bytes(6)
    _add_tap(site.space, tap, card)
    asked = site.folder / f"{tap}.plan"
    asked.write_bytes(plan(lane.queues, lane.family, card))
    argv = [str(site.program), BRIDGE, tap, str(lane.queues), lane.steered, str(asked)]
    with ExitStack() as held:
        fds = []
        if lane.steered == "ebpf":
            fds = [_program(site.elf, lane.queues, held)]
        command = site.space.command([*argv, *map(str, fds)])
        yardstick = held.enter_context(started_by(command, "path", fds))
        assert yardstick.process.stdout is not None  # noqa: S101 - started_by makes the pipe
        if yardstick.process.stdout.readline() != "ready\n":
            raise BenchError(f"cannot read the queues of '{tap}'")
        yield yardstick


def _program(elf: bytes, queues: int, held: ExitStack) -> int:
    """Return the fd of a program that steers to *queues* queues, until *held* is closed."""
    loaded = load(elf, OBJECT_ID, frozenset())
    fds = [fd.borrow() for fd in held.enter_context(loaded.fds)]
    maps.write(*fds[1:], steering=steering(queues))
    return fds[0]


def _add_tap(space: Namespace, tap: str, card: bytes) -> None:
    """Make a tap that the bridge sends everything for *card* to, and nothing else."""
    space.run(["ip", "tuntap", "add", "dev", tap, "mode", "tap", "multi_queue", "vnet_hdr"])
    space.run(["ip", "link", "set", "dev", tap, "master", BRIDGE, "up"])
    space.run(["bridge", "fdb", "add", card.hex(":"), "dev", tap, "master", "static"])
