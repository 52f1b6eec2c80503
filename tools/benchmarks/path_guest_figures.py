# SPDX-License-Identifier: LGPL-2.1-or-later
"""The figures of tools/bench path-guest, their wanted values, and how both are printed.

A lane is compared with the one queue of the same round, and who steers with who else does so: by
the median of the ratios, so that drift cancels.
"""

import platform
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from benchmarks.figures import Verdict, ratio
from benchmarks.report import cpus, verdict_line, wanted

STEERED: Final = {
    "one": "one queue",
    "ebpf": "eBPF",
    "kernel": "kernel's own",
    "user": "user space",
}
"""Who picks the queue, and what that is called."""

QUEUES: Final = 4
"""Of each lane but the one queue; the guest of each has as many processors."""

CARDS: Final = bytes.fromhex("5254008400")

HEADS: Final = (
    f"{'':<20} {'packets':>8} {'processor time a packet, us':^35} {'of one queue':^23} {'as':>7}",
    (
        "steered by     vhost       /s   sender     loop    vhost    guest"
        "  packets    host     all   asked"
    ),
)

PERCENT: Final = 100
PER_SECOND: Final = 1_000_000_000
NS_PER_US: Final = 1000

EBPF_TO_KERNEL_TIMES: Final = 1.5
EBPF_TO_USER_TIMES: Final = 1.5


class Lane(NamedTuple):
    """A VM, by who picks the queue of its packets, and whether vhost moves them."""

    steered: str
    vhost: bool = False

    @property
    def key(self) -> str:
        """Its name in JSON, and that of its VM."""
        return f"{self.steered}-vhost" if self.vhost else self.steered

    @property
    def queues(self) -> int:
        """How many queues its card has."""
        return 1 if self.steered == "one" else QUEUES

    @property
    def rss(self) -> bool:
        """Whether its guest can ask for RSS."""
        return self.steered in {"ebpf", "user"}

    @property
    def card(self) -> bytes:
        """The address of its card."""
        return CARDS + bytes([list(STEERED).index(self.steered) << 1 | self.vhost])


ONE: Final = Lane("one")
"""What all are compared with."""


class Look(NamedTuple):
    """What was seen in a time; times are in nanoseconds, and all but the first processor time."""

    elapsed: int
    packets: int
    sender: int
    """In the sender's system calls: the bridge, the choice of the queue."""
    loop: int
    """Of QEMU's main loop, and of its other threads but the next two."""
    vhost: int
    """Of the kernel's threads that read the queues, if vhost does that."""
    guest: int
    """Of the VM's processors."""

    @property
    def rate(self) -> float:
        """Packets a second."""
        return self.packets * PER_SECOND / self.elapsed

    @property
    def host(self) -> float:
        """What a packet costs before the guest has it."""
        return (self.sender + self.loop + self.vhost) / self.packets

    @property
    def whole(self) -> float:
        """What a packet costs, with the guest's part."""
        return self.host + self.guest / self.packets


class Row(NamedTuple):
    """The medians of a lane."""

    lane: Lane
    rounds: int
    rate: float | None
    """Packets a second in a flood."""
    sender_us: float
    loop_us: float
    vhost_us: float
    guest_us: float
    rate_times: float | None
    """Of one queue in the same round, as the next two."""
    host_times: float
    whole_times: float
    as_asked_percent: float


@dataclass(slots=True)
class GuestFigures:
    """Everything that was measured."""

    looks: dict[Lane, list[Look]] = field(default_factory=dict)
    """Of each lane, one in each round, at an even rate; ONE is among them."""
    floods: dict[Lane, list[Look]] = field(default_factory=dict)
    """The same while it got as many packets as it took; without those of user."""
    stopped: int | None = None
    """How many packets user took in a flood, if it then took no more."""
    as_asked: dict[Lane, float] = field(default_factory=dict)
    """Percent of the packets that were on the queue that the guest of ebpf asked for."""

    def rows(self) -> list[Row]:
        """Return one row for each lane, in the order in which they took turns."""
        return [self._row(lane, looks) for lane, looks in self.looks.items()]

    def _row(self, lane: Lane, looks: list[Look]) -> Row:
        def each(time: Callable[[Look], int]) -> float:
            return statistics.median(time(look) / look.packets / NS_PER_US for look in looks)

        floods, one = self.floods.get(lane, []), self.looks[ONE]
        return Row(
            lane=lane,
            rounds=len(looks),
            rate=statistics.median(look.rate for look in floods) if floods else None,
            sender_us=each(lambda look: look.sender),
            loop_us=each(lambda look: look.loop),
            vhost_us=each(lambda look: look.vhost),
            guest_us=each(lambda look: look.guest),
            rate_times=ratio(floods, self.floods[ONE], lambda look: look.rate) if floods else None,
            host_times=ratio(looks, one, lambda look: look.host),
            whole_times=ratio(looks, one, lambda look: look.whole),
            as_asked_percent=self.as_asked[lane],
        )

    def verdicts(self) -> list[Verdict]:
        """Return the wanted values and the results."""
        ours = [lane for lane in self.looks if lane.steered == "ebpf"]
        astray = max(PERCENT - self.as_asked[lane] for lane in ours)
        kernel, user = (
            ratio(self.looks[Lane("ebpf")], self.looks[Lane(other)], lambda look: look.host)
            for other in ("kernel", "user")
        )
        return [
            Verdict("astray", "with eBPF, packets on another queue", astray, 0.0, "%"),
            Verdict("ebpf_to_kernel", "eBPF, of the kernel's own, host", kernel,
                    EBPF_TO_KERNEL_TIMES, "times"),
            Verdict("ebpf_to_user", "eBPF, of user space, host", user,
                    EBPF_TO_USER_TIMES, "times"),
        ]  # fmt: skip


def as_object(figures: GuestFigures) -> dict[str, object]:
    """Return everything as one JSON object."""
    verdicts = figures.verdicts()
    return {
        "machine": {"kernel": platform.release(), "cpus": cpus()},
        "stopped_after": figures.stopped,
        "lanes": {row.lane.key: _as_fields(row) for row in figures.rows()},
        "wanted": {verdict.key: wanted(verdict) for verdict in verdicts},
        "met": all(verdict.met for verdict in verdicts),
    }


def _as_fields(row: Row) -> dict[str, object]:
    return {name: value for name, value in row._asdict().items() if name != "lane"}


def as_table(figures: GuestFigures) -> str:
    """Return everything for a person to read."""
    rounds = len(figures.looks[ONE])
    machine = f"Linux {platform.release()}, {cpus()} processors for all threads"
    lines = [
        f"{machine}; {rounds} rounds, medians",
        "",
        *HEADS,
        *map(_row_line, figures.rows()),
        "",
        f"in a flood, user space {_flooded(figures.stopped)}",
        "",
        f"{'wanted':<36} {'at most':>10} {'measured':>10}",
        *map(verdict_line, figures.verdicts()),
    ]
    return "\n".join(lines) + "\n"


def _flooded(stopped: int | None) -> str:
    return "did not stop" if stopped is None else f"took {stopped} packets, and then no more"


def _row_line(row: Row) -> str:
    vhost = "yes" if row.lane.vhost else "no"
    rate, rate_times = row.rate, row.rate_times
    return (
        f"{STEERED[row.lane.steered]:<14} {vhost:<5} {'-' if rate is None else round(rate):>8} "
        f"{row.sender_us:>8.2f} {row.loop_us:>8.2f} {row.vhost_us:>8.2f} {row.guest_us:>8.2f} "
        f"{'-' if rate_times is None else f'{rate_times:.2f}':>8} "
        f"{row.host_times:>7.2f} {row.whole_times:>7.2f} {row.as_asked_percent:>6.1f}%"
    )
