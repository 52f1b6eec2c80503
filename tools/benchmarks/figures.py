# SPDX-License-Identifier: LGPL-2.1-or-later
"""Medians, percentiles, and wanted values.

The load of the machine changes while the bench runs. So the helper and C take turns, and they are
compared pair by pair: by the median of the differences, not the difference of the medians.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

NS_PER_MS = 1_000_000
KIB_PER_MIB = 1024

LOAD_OVER_C_MS = 10.0
COLD_OVER_C_MS = 60.0
RESIDENT_MIB = 18.0
TWO_AT_ONCE_TIMES = 1.3


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of the helper as proc(5)'s status file gives it, in KiB."""

    now_kib: int
    peak_kib: int


@dataclass(frozen=True, slots=True)
class Times:
    """What was timed, in nanoseconds; the lists grow while the bench runs.

    Entries at the same place in ``load`` and ``c_load``, in ``cold`` and ``c_cold`` and so on were
    measured right after each other.
    """

    load: list[int] = field(default_factory=list)
    c_load: list[int] = field(default_factory=list)
    two: list[int] = field(default_factory=list)
    c_two: list[int] = field(default_factory=list)
    hello: list[int] = field(default_factory=list)
    floor: list[int] = field(default_factory=list)
    ready: list[int] = field(default_factory=list)
    ready_floor: list[int] = field(default_factory=list)
    cold: list[int] = field(default_factory=list)
    c_cold: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that was measured."""

    times: Times
    memory: Memory


@dataclass(frozen=True, slots=True)
class Row:
    """The distribution of one list, in milliseconds."""

    key: str
    what: str
    count: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """One figure and the most that it should be."""

    key: str
    what: str
    value: float
    at_most: float
    unit: str

    @property
    def met(self) -> bool:
        """Whether it is low enough."""
        return self.value <= self.at_most


def percentile(values: Sequence[int], percent: float) -> int:
    """Return the smallest of *values* that *percent* of them do not exceed (nearest rank)."""
    rank = math.ceil(len(values) * percent / 100)
    return sorted(values)[max(rank, 1) - 1]


def rows(figures: Figures) -> list[Row]:
    """Return the distribution of everything that was timed."""
    times = figures.times
    timed = (
        ("load", "helper: connect to fds, warm", times.load),
        ("c_load", "C: the same load", times.c_load),
        ("two", "helper: two at once", times.two),
        ("c_two", "C: two at once", times.c_two),
        ("cold", "helper: activation to fds, cold", times.cold),
        ("c_cold", "C: the same load, in turn", times.c_cold),
        ("hello", "helper: connect to answer, no load", times.hello),
        ("floor", "C: connect to four fds, no load", times.floor),
        ("ready", "C, helper: eight sets that are ready", times.ready),
        ("ready_floor", "C: eight times four fds, no load", times.ready_floor),
    )
    return [_row(key, what, values) for key, what, values in timed]


def _row(key: str, what: str, values: Sequence[int]) -> Row:
    p50, p99 = (percentile(values, percent) / NS_PER_MS for percent in (50, 99))
    return Row(key, what, len(values), p50, p99)


def verdicts(figures: Figures) -> list[Verdict]:
    """Return the wanted values and the results."""
    times = figures.times
    load_over = over_ms(times.load, times.c_load)
    cold_over = over_ms(times.cold, times.c_cold)
    resident = figures.memory.now_kib / KIB_PER_MIB
    two = to_times(times.two, times.load)
    return [
        Verdict("load_over_c", "a warm load, over C", load_over, LOAD_OVER_C_MS, "ms"),
        Verdict("cold_over_c", "a cold start and load, over C", cold_over, COLD_OVER_C_MS, "ms"),
        Verdict("resident", "resident memory", resident, RESIDENT_MIB, "MiB"),
        Verdict("two_at_once", "two at once, of one", two, TWO_AT_ONCE_TIMES, "times"),
    ]


def ratios(figures: Figures) -> dict[str, float]:
    """Return the ratios of the first time to the second, as medians of the pairs."""
    times = figures.times
    return {
        "load_to_c": to_times(times.load, times.c_load),
        "cold_to_c": to_times(times.cold, times.c_cold),
        "two_to_c": to_times(times.two, times.c_two),
        "c_two_at_once": to_times(times.c_two, times.c_load),
        "hello_to_floor": to_times(times.hello, times.floor),
        "ready_to_floor": to_times(times.ready, times.ready_floor),
        "load_to_ready": statistics.median(times.load) / statistics.median(times.ready),
    }


def to_ms(nanoseconds: int) -> float:
    """Return *nanoseconds* in milliseconds."""
    return nanoseconds / NS_PER_MS


def over_ms(ours: Sequence[int], theirs: Sequence[int]) -> float:
    """Return how many milliseconds longer *ours* takes, as the median of the pairs."""
    return statistics.median(a - b for a, b in zip(ours, theirs, strict=True)) / NS_PER_MS


def to_times(ours: Sequence[int], theirs: Sequence[int]) -> float:
    """Return the ratio of *ours* to *theirs*, as the median of the pairs."""
    return ratio(ours, theirs, float)


def ratio(ours: Sequence[T], theirs: Sequence[T], value: Callable[[T], float]) -> float:
    """Return the same for a *value* of each."""
    return statistics.median(value(a) / value(b) for a, b in zip(ours, theirs, strict=True))
