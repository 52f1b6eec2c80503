# SPDX-License-Identifier: LGPL-2.1-or-later
"""What ``bpferry steering --watch`` costs a VM that gets packets.

A guest with four queues, steered by eBPF, gets packets from the host at an even rate. Each round
measures for some seconds without a watch, with one, and without one again:

    qemu        processor time of QEMU for each second, in which the guest's own is
    rate        packets that the guest has counted, for each second
    supervisor  processor time of bpferry, which answers the watch

How far the two measurements without a watch are apart is the noise: a difference that is smaller
was not measured.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.figures import NS_PER_MS, Verdict
from benchmarks.interrupts import Interrupts
from benchmarks.progress import show_progress
from benchmarks.report import verdict_line, wanted
from guest.build import CACHE, build_guest
from guest.netns import Namespace, bridged
from steering_demo.counts import WATCH, counters, watched
from steering_demo.helpers import activated_helpers
from steering_demo.play import even_table, explaining
from steering_demo.stations import FIRST, HOST, MTU
from steering_demo.vm import Vm, client, running_vm
from steering_demo.witness import live_maps
from steering_demo.workplace import BRIDGE, workplace

RATE: Final = 500
"""Packets a second: an emulated guest takes some thousand, and fewer on a busy host."""

FLOWS: Final = 64
"""From as many ports, so that each queue has some."""

BOOT_SECONDS: Final = 600.0
"""It takes ten, and much longer on a host that is busy with other guests."""

SECONDS: Final = 4.0
"""Of each measurement."""

SETTLED_S: Final = 1.0
"""After the traffic has begun or ended."""

SENDER: Final = f"""
import socket, sys, time
target = (sys.argv[1], 40000)
senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range({FLOWS})]
sent, began = 0, time.monotonic()
while True:
    due = int((time.monotonic() - began) * {RATE})
    for number in range(sent, due):
        senders[number % {FLOWS}].sendto(bytes(64), target)
    sent = due
    time.sleep(0.002)
"""


class Look(NamedTuple):
    """What one measurement has found, for each second."""

    qemu_ms: float
    supervisor_ms: float
    rate: float


@dataclass(slots=True)
class Watched:
    """All measurements; those at the same place are of one round."""

    before: list[Look] = field(default_factory=list)
    during: list[Look] = field(default_factory=list)
    after: list[Look] = field(default_factory=list)

    def cost(self, value: Callable[[Look], float]) -> float:
        """Return by how many percent *value* is higher with a watch, as the median of rounds."""
        return statistics.median(
            100 * (value(now) / _mean(value(one), value(two)) - 1)
            for one, now, two in self._rounds()
        )

    def noise(self, value: Callable[[Look], float]) -> float:
        """Return by how many percent *value* differs without one, as the median of rounds."""
        return statistics.median(
            100 * abs(value(one) - value(two)) / _mean(value(one), value(two))
            for one, _, two in self._rounds()
        )

    def _rounds(self) -> Iterator[tuple[Look, Look, Look]]:
        return zip(self.before, self.during, self.after, strict=True)

    def verdicts(self) -> list[Verdict]:
        """Return what is wanted, and what came out: no more than the noise."""
        return [
            Verdict(
                "qemu", "more of QEMU's processor time", self.cost(_qemu), self.noise(_qemu), "%"
            ),
            Verdict("rate", "fewer packets", -self.cost(_rate), self.noise(_rate), "%"),
        ]


def _mean(one: float, two: float) -> float:
    return (one + two) / 2


def _qemu(look: Look) -> float:
    return look.qemu_ms


def _rate(look: Look) -> float:
    return look.rate


def as_table(seen: Watched) -> str:
    """Return everything for a person to read."""
    lines = [f"{'for each second':<16} {'N':>4} {'QEMU':>11} {'bpferry':>11} {'packets':>9}"]
    for name in ("before", "during", "after"):
        looks: list[Look] = getattr(seen, name)
        qemu, supervisor, rate = _medians(looks)
        lines.append(
            f"{name:<16} {len(looks):>4} {qemu:>8.2f} ms {supervisor:>8.2f} ms {rate:>9.1f}"
        )
    lines += ["", f"{'wanted: within the noise':<36} {'at most':>10} {'measured':>10}"]
    return "\n".join([*lines, *map(verdict_line, seen.verdicts())]) + "\n"


def _medians(looks: Sequence[Look]) -> Look:
    return Look(*(statistics.median(values) for values in zip(*looks, strict=True)))


def as_object(seen: Watched) -> dict[str, object]:
    """Return everything as one JSON object; times are in milliseconds for each second."""
    names = ("before", "during", "after")
    return {
        **{name: [look._asdict() for look in getattr(seen, name)] for name in names},
        "wanted": {verdict.key: wanted(verdict) for verdict in seen.verdicts()},
        "met": all(verdict.met for verdict in seen.verdicts()),
    }


def measure(rounds: int, interrupts: Interrupts) -> Watched:
    """Measure *rounds* rounds.

    Raises:
        GuestError: the guest does not come up, or does not answer.
    """
    seen = Watched()
    guest = build_guest(CACHE, lambda _: None)
    with (
        workplace() as place,
        bridged(BRIDGE, [HOST.ipv4, HOST.ipv6], MTU) as space,
        explaining(place),
        activated_helpers(place, space),
        running_vm(place, space, guest, FIRST) as machine,
    ):
        _set_up(machine)
        watch = client(place, space, ["steering", FIRST.name, *WATCH])
        for done in range(rounds):
            interrupts.check()
            show_progress("rounds", done, rounds)
            seen.before.append(_look(machine, space))
            with watched(watch) as counts:
                next(counts)
                seen.during.append(_look(machine, space))
            seen.after.append(_look(machine, space))
        show_progress("rounds", rounds, rounds)
    return seen


def _set_up(machine: Vm) -> None:
    console = machine.console
    console.wait_until_ready(BOOT_SECONDS)
    console.ask("address", ipv4=FIRST.ipv4, ipv6=FIRST.ipv6)
    console.ask("channels", count=FIRST.queues)
    with live_maps(machine.qemu_pid()) as maps:
        even_table(machine, maps)


@contextmanager
def _traffic(space: Namespace) -> Iterator[None]:
    """Let packets flow to the guest."""
    argv = space.command([sys.executable, "-B", "-c", SENDER, FIRST.addresses[0]])
    with subprocess.Popen(argv, start_new_session=True) as sender:
        try:
            yield
        finally:
            sender.kill()


def _look(machine: Vm, space: Namespace) -> Look:
    """Measure under traffic for some seconds; the guest is asked before and afterwards."""
    packets, began = sum(counters(machine.console).values()), time.monotonic()
    with _traffic(space):
        time.sleep(SETTLED_S)
        pids = machine.qemu_pid(), machine.process.pid
        before, then = [_cpu_ms(pid) for pid in pids], time.monotonic()
        time.sleep(SECONDS)
        spent = time.monotonic() - then
        qemu, own = ((_cpu_ms(pid) - ms) / spent for pid, ms in zip(pids, before, strict=True))
    sent_for = time.monotonic() - began
    time.sleep(SETTLED_S)
    counted = sum(counters(machine.console).values()) - packets
    return Look(qemu, own, counted / sent_for)


def _cpu_ms(pid: int) -> float:
    """Return how long all threads of *pid* have had a processor: proc(5)'s schedstat."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(path.read_text(encoding="ascii").split()[0]) for path in threads) / NS_PER_MS
