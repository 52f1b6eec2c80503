# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long it takes to get a tap with several queues on a bridge, compared with qemu-bridge-helper.

    warm     connect, ask, receive, at the rate that the policy allows one user by default; the
             helper uses the pauses to make spare taps. In turn with qemu-bridge-helper, one queue.
    no pause one request right after the other
    with N   as warm, while N of the helper's taps are in use, in turn with another helper on a host
             without any
    cold     the first request starts the helper
    idle     the helper's memory after it was idle

The client is uid 0. It releases each tap at once, which is not part of the times.
"""

import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.client import Client
from benchmarks.command import BenchError
from benchmarks.figures import Memory
from benchmarks.handover import FOLDER
from benchmarks.interrupts import Interrupts
from benchmarks.memory import memory_of
from benchmarks.progress import show_progress
from benchmarks.tap_figures import PER_SECOND, QUEUES, TapFigures
from benchmarks.tap_host import BRIDGES, TapHost, tap_host
from benchmarks.yardstick import Yardstick
from bpferry_wire.messages import Tap

ROUNDS_FOR_EACH_COLD_START = 4
WARM_UP = 3
"""Requests after which the helper has spares of the right size, and all code has run once."""

IDLE_EXIT_S = 1
ENDS_WITHIN_S = 3.0
"""How long the helper may take to exit after its idle time."""

POLL_S = 0.05
OWN_FDS = 64
"""How many fds the bench needs besides those of its taps."""


@dataclass(frozen=True, slots=True)
class Site:
    """A host, and who gets taps there."""

    host: TapHost
    client: Client
    rival: Yardstick

    def tap_ns(self) -> int:
        """Get a tap and release it."""
        return self.client.tap_ns(_tap(BRIDGES[0]))

    def rival_ns(self) -> int:
        """Let qemu-bridge-helper get a tap, and release it."""
        return self.rival.ask_ns(1)[0]


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything that is running or ready to run while the bench measures."""

    crowded: Site
    """Where many taps are made."""
    empty: Site
    figures: TapFigures
    rounds: int
    interrupts: Interrupts

    @property
    def some_rounds(self) -> int:
        """Rounds of what takes longer or is repeated."""
        return max(1, self.rounds // ROUNDS_FOR_EACH_COLD_START)


def measure(rounds: int, most: int, interrupts: Interrupts) -> TapFigures:
    """Measure in *rounds* rounds, and with a hundredth, a tenth and all of *most* taps.

    Raises:
        BenchError: something could not be started.
        Interrupted: on a signal, after everything has been stopped.
    """
    figures = TapFigures([max(1, most // 100), most // 10, most])
    _allow_fds(most * QUEUES + OWN_FDS)
    with _bench(figures, rounds, interrupts) as bench:
        with ExitStack() as held:
            with bench.crowded.host.listening() as pid, bench.empty.host.listening():
                _measure_warm(bench)
                _measure_no_pause(bench)
                for count in figures.counts:
                    _hold(bench, held, count)
                    _measure_with(bench, count)
                figures.memory = memory_of(pid)
            _measure_cold(bench, bench.crowded, "cold_with", most)
        _measure_cold(bench, bench.empty, "cold", 0)
        _measure_foreign(bench, most)
        _measure_idle(bench)
    return figures


@contextmanager
def _bench(figures: TapFigures, rounds: int, interrupts: Interrupts) -> Iterator[Bench]:
    with _site() as crowded, _site() as empty:
        yield Bench(crowded, empty, figures, rounds, interrupts)


@contextmanager
def _site() -> Iterator[Site]:
    with (
        tempfile.TemporaryDirectory(prefix="bpferry-bench-", dir=FOLDER) as name,
        tap_host(Path(name)) as host,
        host.bridge_helper() as rival,
    ):
        yield Site(host, Client(host.place.socket, host.place.log), rival)


def _tap(bridge: str) -> Tap:
    return Tap(bridge, is_network=False, queues=QUEUES)


def _allow_fds(count: int) -> None:
    """Allow this process *count* open fds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        raise BenchError(
            f"cannot hold so many taps: that takes {count} open files, and {hard} are allowed",
            "ulimit -Hn, or measure with less: --taps",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))


def _measure_warm(bench: Bench) -> None:
    site = bench.empty
    tap, rival = bench.figures.of("tap"), bench.figures.of("rival")
    _warm_up(site)
    for _ in _rounds(bench, "warm", bench.rounds):
        _paced(tap, site.tap_ns)
        _paced(rival, site.rival_ns)


def _warm_up(site: Site) -> None:
    for _ in range(WARM_UP):
        _paced([], site.tap_ns)
        _paced([], site.rival_ns)


def _paced(times: list[int], get_ns: Callable[[], int]) -> None:
    """Measure once, and wait for the rest of half of the time between two requests."""
    until = time.monotonic() + 1 / PER_SECOND / 2
    times.append(get_ns())
    time.sleep(max(0.0, until - time.monotonic()))


def _measure_no_pause(bench: Bench) -> None:
    times = bench.figures.of("no_pause")
    for _ in _rounds(bench, "without a pause", bench.rounds):
        times.append(bench.empty.tap_ns())


def _hold(bench: Bench, held: ExitStack, count: int) -> None:
    """Get taps, spread over the bridges, until *count* are *held*."""
    there = max((each for each in bench.figures.counts if each < count), default=0)
    times = bench.figures.of("making", count)
    for number in _rounds(bench, "making taps", count - there):
        start = time.perf_counter_ns()
        fds = bench.crowded.client.hold(_tap(BRIDGES[number % len(BRIDGES)]))
        held.callback(fds.close)
        times.append(time.perf_counter_ns() - start)
    alive = bench.crowded.client.taps_alive()
    if alive != count:
        raise BenchError(f"{alive} taps are alive where {count} are held")


def _measure_with(bench: Bench, count: int) -> None:
    figures, crowded, empty = bench.figures, bench.crowded, bench.empty
    _warm_up(crowded)
    _warm_up(empty)
    for _ in _rounds(bench, f"with {count} taps", bench.some_rounds):
        _paced(figures.of("none_with", count), empty.tap_ns)
        _paced(figures.of("tap_with", count), crowded.tap_ns)
        _paced(figures.of("rival_with", count), crowded.rival_ns)
        _paced(figures.of("quota_with", count), crowded.client.quota_ns)


def _measure_foreign(bench: Bench, count: int) -> None:
    figures, site = bench.figures, bench.empty
    site.host.add_foreign_links(count)
    with site.host.listening():
        _warm_up(site)
        for _ in _rounds(bench, f"with {count} foreign links", bench.some_rounds):
            _paced(figures.of("tap_foreign", count), site.tap_ns)
            _paced(figures.of("quota_foreign", count), site.client.quota_ns)


def _measure_cold(bench: Bench, site: Site, kind: str, count: int) -> None:
    times = bench.figures.of(kind, count)
    for _ in _rounds(bench, "cold", bench.some_rounds):
        with site.host.listening():
            times.append(site.tap_ns())


def _measure_idle(bench: Bench) -> None:
    site = bench.empty
    with site.host.listening(IDLE_EXIT_S) as pid:
        site.tap_ns()
        deadline = time.monotonic() + IDLE_EXIT_S + ENDS_WITHIN_S
        while time.monotonic() < deadline and not _has_ended(pid):
            time.sleep(POLL_S)
        bench.figures.idle = Memory(0, 0) if _has_ended(pid) else memory_of(pid)


def _has_ended(pid: int) -> bool:
    """Return whether our child *pid* has ended; it still has to be waited for."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "Z"


def _rounds(bench: Bench, what: str, count: int) -> Iterator[int]:
    """Count to *count*, show the progress, and stop on a signal."""
    for done in range(count):
        show_progress(what, done, count)
        bench.interrupts.check()
        yield done
    show_progress(what, count, count)
