# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is measured, in which order: the helper and C in turn, so that drift affects both."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.activated import UNPACED, Place, listening, make_place
from benchmarks.client import Client
from benchmarks.command import BenchError
from benchmarks.figures import Figures, Memory, Times
from benchmarks.installed import install_copy
from benchmarks.interrupts import Interrupts
from benchmarks.memory import memory_of
from benchmarks.object import OBJECT_ID, CarriedObject
from benchmarks.progress import show_progress
from benchmarks.yardstick import Yardstick, build, started, started_by
from bpferry_wire.messages import Load
from bpferry_wire.packets import encode_request

CARDS = 8
"""Of one VM: as many sets are loaded ahead, and asked for one after the other."""

READY_WITHIN_S = 30.0
POLL_S = 0.02

ROUNDS_FOR_EACH_COLD_START = 4
"""A cold start takes longer than a whole round, and varies less."""

FOLDER = "/var/tmp"  # noqa: S108 - the folder made in it is root's alone
"""Not TMPDIR, which another user may not be able to read, nor /run, which is mounted noexec."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything that is running or ready to run while the bench measures."""

    place: Place
    client: Client
    load: Load
    c_load: Yardstick
    c_floor: Yardstick
    asker: Path
    """The program of *c_floor*: it can ask the helper too."""
    interrupts: Interrupts


def measure(carried: CarriedObject, rounds: int, interrupts: Interrupts) -> Figures:
    """Measure everything in *rounds* rounds, and the cold start in a quarter of them.

    Raises:
        Interrupted: on a signal, after everything has been stopped.
    """
    times = Times()
    with _bench(carried, interrupts) as bench:
        memory = _measure_warm(bench, times, rounds)
        _measure_ready(bench, times, max(1, rounds // CARDS))
        _measure_cold(bench, times, max(1, rounds // ROUNDS_FOR_EACH_COLD_START))
    return Figures(times, memory)


@contextmanager
def _bench(carried: CarriedObject, interrupts: Interrupts) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="bpferry-bench-", dir=FOLDER) as name:
        folder = Path(name)
        place = make_place(folder, install_copy(folder))
        elf = folder / "object.o"
        elf.write_bytes(carried.elf)
        loader, floor = build("load", folder, ["bpf"]), build("floor", folder)
        with started(loader, elf) as c_load, started(floor, folder / "floor.sock") as c_floor:
            # By default, members of the socket's group may load; here that is the helper's group.
            os.setgroups([*os.getgroups(), place.uid])
            client = Client(place.socket, place.log)
            load = Load(OBJECT_ID, carried.digest)
            yield Bench(
                place, client, load,
                c_load=c_load, c_floor=c_floor, asker=floor, interrupts=interrupts,
            )  # fmt: skip


def _measure_warm(bench: Bench, times: Times, rounds: int) -> Memory:
    with listening(bench.place, paced=False) as pid:
        # The first load starts the helper, which reads every QEMU; the C programs warm up too.
        for _ in range(2):
            _one_round(bench, Times())
        for done in range(rounds):
            show_progress("warm", done, rounds)
            _one_round(bench, times)
        bench.client.census()
        return memory_of(pid)


def _one_round(bench: Bench, times: Times) -> None:
    bench.interrupts.check()
    times.load.append(bench.client.load_ns(bench.load))
    times.c_load.extend(bench.c_load.ask_ns(1))
    times.two.append(bench.client.load_ns(bench.load, at_once=2))
    times.c_two.extend(bench.c_load.ask_ns(2))
    times.hello.append(bench.client.hello_ns())
    times.floor.extend(bench.c_floor.ask_ns(1))


def _measure_ready(bench: Bench, times: Times, bursts: int) -> None:
    """Ask for sets that are ready, in C on the client's side as for the floor."""
    bench.place.policy.write_text(UNPACED.format(ready=CARDS))
    request = bench.place.folder / "request"
    request.write_bytes(encode_request(bench.load))
    asking = [str(bench.asker), str(bench.place.socket), str(request)]
    with listening(bench.place, paced=False), started_by(asking, "floor") as c_client:
        c_client.ask_ns(CARDS)
        for done in range(bursts):
            show_progress("ready", done, bursts)
            bench.interrupts.check()
            _wait_until_ready(bench)
            times.ready.extend(c_client.ask_ns(CARDS))
            times.ready_floor.extend(bench.c_floor.ask_ns(CARDS))


def _wait_until_ready(bench: Bench) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while bench.client.ready() < CARDS:
        if time.monotonic() > deadline:
            raise BenchError(f"the helper has not loaded {CARDS} sets ahead")
        time.sleep(POLL_S)


def _measure_cold(bench: Bench, times: Times, starts: int) -> None:
    for done in range(starts):
        show_progress("cold", done, starts)
        bench.interrupts.check()
        with listening(bench.place, paced=True):
            times.cold.append(bench.client.load_ns(bench.load))
        times.c_cold.extend(bench.c_load.ask_ns(1))
    show_progress("cold", starts, starts)
