# SPDX-License-Identifier: LGPL-2.1-or-later
"""The figures of tools/bench tap, their wanted values, and how both are printed.

A request is compared with what was measured right before or after it, as the median of the pairs:
with qemu-bridge-helper, and if there are many taps, with a host that has none.
"""

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from benchmarks.figures import (
    Memory,
    Row,
    Verdict,
    over_ms,
    percentile,
    to_ms,
    to_times,
)
from benchmarks.report import cpus, mib, row_line, times_of, verdict_line, wanted

NOTHING = Memory(0, 0)

QUEUES = 4
PER_SECOND = 8
"""Requests a second that the policy allows a user by default."""

TO_RIVAL_TIMES = 3.0
COLD_MS = 350.0
MORE_MS = 2.0
MEMORY_MIB = 40.0

SECTIONS = (
    {
        "tap": "connect to {queues} fds, warm",
        "rival": "qemu-bridge-helper to 1 fd, in turn",
        "no_pause": "connect to {queues} fds, without a pause",
    },
    {
        "making": "connect to {queues} fds, {count} not given up",
        "tap_with": "warm, with {count} taps",
        "none_with": "warm where none are, in turn",
        "rival_with": "qemu-bridge-helper, with {count} taps",
        "quota_with": "counting them",
    },
    {
        "tap_foreign": "warm, with {count} foreign links",
        "quota_foreign": "counting our taps among them",
    },
    {
        "cold": "activation to {queues} fds, cold",
        "cold_with": "cold, with {count} taps",
    },
)
"""What is timed, in the order in which it is shown; in each section first by count."""

WHAT = {kind: what for section in SECTIONS for kind, what in section.items()}


@dataclass(frozen=True, slots=True)
class Timed:
    """One thing that was timed, in nanoseconds; the list grows while the bench runs."""

    kind: str
    count: int
    """Taps or links that existed already."""
    values: list[int] = field(default_factory=list)

    @property
    def key(self) -> str:
        """Its name in JSON."""
        return f"{self.kind}_{self.count}" if self.count else self.kind

    def row(self) -> Row:
        """Return its distribution."""
        p50, p99 = (to_ms(percentile(self.values, percent)) for percent in (50, 99))
        what = WHAT[self.kind].format(queues=QUEUES, count=f"{self.count:,}")
        return Row(self.key, what, len(self.values), p50, p99)


@dataclass(slots=True)
class TapFigures:
    """Everything that was measured."""

    counts: Sequence[int]
    """Numbers of taps that existed already, in ascending order."""
    timed: dict[tuple[str, int], Timed] = field(default_factory=dict)
    memory: Memory = NOTHING
    idle: Memory = NOTHING
    """The helper's memory after its idle time has passed."""

    def of(self, kind: str, count: int = 0) -> list[int]:
        """Return the list of times of *kind* with *count* taps or links."""
        return self.timed.setdefault((kind, count), Timed(kind, count)).values

    def rows(self) -> list[Row]:
        """Return the distribution of everything that was timed."""
        return [
            self.timed[kind, count].row()
            for section in SECTIONS
            for count in sorted({count for _, count in self.timed})
            for kind in section
            if (kind, count) in self.timed
        ]

    def ratios(self) -> dict[str, float]:
        """Return the ratios of the first time to the second."""
        some, many = self.counts[-2], self.counts[-1]
        with_many = self.of("tap_with", many)
        counting = [_median(self.of("quota_with", count)) for count in (many, some)]
        tails = [percentile(self.of(kind), 99) for kind in ("tap", "rival")]
        return {
            "tap_to_rival": to_times(self.of("tap"), self.of("rival")),
            "p99_to_rival": tails[0] / tails[1],
            "many_to_rival": to_times(with_many, self.of("rival_with", many)),
            "many_to_some": self._over_none(many) / self._over_none(some),
            "counting_many_to_some": counting[0] / counting[1],
        }

    def _over_none(self, count: int) -> float:
        """Return the ratio of a request's time with *count* taps to one without."""
        return to_times(self.of("tap_with", count), self.of("none_with", count))

    def verdicts(self) -> list[Verdict]:
        """Return the wanted values and the results."""
        some, many = self.counts[-2], self.counts[-1]
        ratios = self.ratios()
        more = over_ms(self.of("tap_with", many), self.of("none_with", many))
        cold, cold_with = (
            to_ms(_median(self.of(*key))) for key in (("cold", 0), ("cold_with", many))
        )
        return [
            Verdict("tap_to_rival", "warm, of qemu-bridge-helper", ratios["tap_to_rival"],
                    TO_RIVAL_TIMES, "times"),
            Verdict("cold", "a cold start", cold, COLD_MS, "ms"),
            Verdict("cold_with", f"a cold start with {many:,} taps", cold_with, COLD_MS, "ms"),
            Verdict("more", f"more with {many:,} taps", more, MORE_MS, "ms"),
            Verdict("linear", f"with {many:,} taps, of with {some:,}", ratios["many_to_some"],
                    many / some, "times"),
            Verdict("memory", "most resident memory ever", mib(self.memory.peak_kib),
                    MEMORY_MIB, "MiB"),
            Verdict("idle", "resident memory when idle", mib(self.idle.now_kib), 0.0, "MiB"),
        ]  # fmt: skip


def _median(values: Sequence[int]) -> int:
    return percentile(values, 50)


RATIO_NAMES = {
    "tap_to_rival": "warm, of qemu-bridge-helper",
    "p99_to_rival": "the same at p99",
    "many_to_rival": "the same with many taps",
    "many_to_some": "warm with many taps, of with fewer",
    "counting_many_to_some": "counting many taps, of fewer",
}


def as_object(figures: TapFigures) -> dict[str, object]:
    """Return everything as one JSON object; times are in milliseconds, memory in KiB."""
    verdicts = figures.verdicts()
    return {
        "machine": {"kernel": platform.release(), "cpus": cpus()},
        "queues": QUEUES,
        "per_second": PER_SECOND,
        "times": {row.key: times_of(row) for row in figures.rows()},
        "ratios": figures.ratios(),
        "memory": asdict(figures.memory),
        "idle": asdict(figures.idle),
        "wanted": {verdict.key: wanted(verdict) for verdict in verdicts},
        "met": all(verdict.met for verdict in verdicts),
    }


def as_table(figures: TapFigures) -> str:
    """Return everything for a person to read."""
    lines = [
        f"Linux {platform.release()}, {cpus()} processors; helper and qemu-bridge-helper in turn,",
        f"{PER_SECOND} taps a second (the default pace for one user) where nothing else is said",
        "",
        f"{'':<36} {'N':>5} {'p50':>11} {'p99':>11}",
        *(row_line(row) for row in figures.rows()),
        "",
        *(
            f"{RATIO_NAMES[key]:<36} {value:>21.2f} times"
            for key, value in figures.ratios().items()
        ),
        "",
        f"{'wanted':<36} {'at most':>10} {'measured':>10}",
        *(verdict_line(verdict) for verdict in figures.verdicts()),
    ]
    return "\n".join(lines) + "\n"
