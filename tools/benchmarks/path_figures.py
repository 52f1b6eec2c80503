# SPDX-License-Identifier: LGPL-2.1-or-later
"""The figures of tools/bench path, their wanted values, and how both are printed.

A lane is compared with the one queue of the same family in the same round, and who steers with who
else does so for as many queues: by the median of the ratios, so that drift cancels.
"""

import platform
import statistics
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from benchmarks.figures import Verdict, ratio
from benchmarks.report import cpus, verdict_line, wanted

FAMILIES: Final = (4, 6)
QUEUES: Final = (1, 2, 4, 8)
STEERED: Final = {
    "ebpf": "eBPF",
    "kernel": "kernel's own",
    "user": "user space",
}
"""Who picks the queue, and what that is called."""

HEADS: Final = (
    f"{'':<27} {'packets':>9} {'time a packet, ns':^17} {'of one queue':^17} {'as asked':>8}",
    "steered by       IP queues        /ms   sender  readers  packets     time",
)

PERCENT: Final = 100
PER_SECOND: Final = 1_000_000_000
PER_THOUSAND: Final = 1000

EBPF_TO_KERNEL_TIMES: Final = 1.5
EBPF_TO_USER_TIMES: Final = 1.5


class Lane(NamedTuple):
    """A tap, its packets' family, and who picks the queue."""

    family: int
    steered: str
    queues: int

    @property
    def key(self) -> str:
        """Its name in JSON."""
        return f"ipv{self.family}_{self.steered}_{self.queues}"


class Run(NamedTuple):
    """One run; times are in nanoseconds."""

    packets: int
    elapsed: int
    sender: int
    """Processor time in the sender's system calls: the bridge, the choice of the queue."""
    readers: int
    as_asked: int
    """Packets on the queue that the guest's table names."""

    @property
    def rate(self) -> float:
        """Packets a second."""
        return self.packets * PER_SECOND / self.elapsed

    @property
    def cost(self) -> float:
        """Processor time for a packet, on both sides."""
        return (self.sender + self.readers) / self.packets


class Row(NamedTuple):
    """The medians of a lane."""

    lane: Lane
    rounds: int
    rate: float
    sender_ns: float
    readers_ns: float
    rate_times: float
    """Of one queue in the same round, as the next."""
    cost_times: float
    as_asked_percent: float


@dataclass(frozen=True, slots=True)
class PathFigures:
    """Everything that was measured: the runs of each lane, one in each round."""

    runs: dict[Lane, list[Run]] = field(default_factory=dict)

    def of(self, lane: Lane) -> list[Run]:
        """Return the runs of *lane*."""
        return self.runs.setdefault(lane, [])

    def rows(self) -> list[Row]:
        """Return one row for each lane, in the order in which they took turns."""
        return [self._row(lane, runs) for lane, runs in self.runs.items()]

    def _row(self, lane: Lane, runs: list[Run]) -> Row:
        one = self.of(Lane(lane.family, "kernel", 1))
        return Row(
            lane=lane,
            rounds=len(runs),
            rate=statistics.median(run.rate for run in runs),
            sender_ns=statistics.median(run.sender / run.packets for run in runs),
            readers_ns=statistics.median(run.readers / run.packets for run in runs),
            rate_times=ratio(runs, one, lambda run: run.rate),
            cost_times=ratio(runs, one, lambda run: run.cost),
            as_asked_percent=PERCENT
            * sum(run.as_asked for run in runs)
            / sum(run.packets for run in runs),
        )

    def cost_times(self, ours: str, theirs: str) -> float:
        """Return the cost of *ours*, of *theirs*: of all lanes with several queues."""
        pairs = [
            run.cost / other.cost
            for lane, runs in self.runs.items()
            if lane.steered == ours and lane.queues > 1
            for run, other in zip(runs, self.of(lane._replace(steered=theirs)), strict=True)
        ]
        return statistics.median(pairs)

    def verdicts(self) -> list[Verdict]:
        """Return the wanted values and the results."""
        lost = sum(
            run.packets - run.as_asked
            for lane, runs in self.runs.items()
            if lane.steered == "ebpf"
            for run in runs
        )
        kernel, user = (self.cost_times("ebpf", other) for other in ("kernel", "user"))
        return [
            Verdict("astray", "with eBPF, packets on another queue", lost, 0.0, ""),
            Verdict("ebpf_to_kernel", "eBPF, of the kernel's own, time", kernel,
                    EBPF_TO_KERNEL_TIMES, "times"),
            Verdict("ebpf_to_user", "eBPF, of user space, time", user,
                    EBPF_TO_USER_TIMES, "times"),
        ]  # fmt: skip


def as_object(figures: PathFigures) -> dict[str, object]:
    """Return everything as one JSON object."""
    verdicts = figures.verdicts()
    return {
        "machine": {"kernel": platform.release(), "cpus": cpus()},
        "lanes": {row.lane.key: _as_fields(row) for row in figures.rows()},
        "wanted": {verdict.key: wanted(verdict) for verdict in verdicts},
        "met": all(verdict.met for verdict in verdicts),
    }


def _as_fields(row: Row) -> dict[str, float]:
    return {name: value for name, value in row._asdict().items() if name != "lane"}


def as_table(figures: PathFigures) -> str:
    """Return everything for a person to read."""
    runs = len(next(iter(figures.runs.values())))
    lines = [
        f"Linux {platform.release()}, {cpus()} processors for all threads; {runs} rounds, medians",
        "",
        *HEADS,
        *map(_row_line, figures.rows()),
        "",
        f"{'wanted':<36} {'at most':>10} {'measured':>10}",
        *map(verdict_line, figures.verdicts()),
    ]
    return "\n".join(lines) + "\n"


def _row_line(row: Row) -> str:
    lane = row.lane
    return (
        f"{STEERED[lane.steered]:<15} {lane.family:>3} {lane.queues:>6}  "
        f"{row.rate / PER_THOUSAND:>9.0f} {row.sender_ns:>8.0f} {row.readers_ns:>8.0f} "
        f"{row.rate_times:>8.2f} {row.cost_times:>8.2f} {row.as_asked_percent:>7.1f}%"
    )
