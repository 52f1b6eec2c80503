# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long it takes from a description to a command line, each step compared with a rival.

    cache     what QEMU can do, read from the cache
    probe     the same, asked of QEMU; compared with a bare QEMU that gets the same commands over a
              plain socket, from a client that only counts the answers
    process   ``bpferry run --dry-run=json`` of a whole document, as a process of the installed
              client; compared with a Python process that does nothing
    cards     reading, planning and building for 64 cards; compared with 16 cards

Each step takes turns with its rival, so that drift affects both.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.command import BenchError, run
from benchmarks.figures import Verdict, over_ms, percentile, to_ms, to_times
from benchmarks.installed import install_client
from benchmarks.interrupts import Interrupts
from bpferry.domain.document import read_bytes
from bpferry.machine.draft import draft
from bpferry.machine.reporter import Silent
from bpferry.qemu import cache, process
from bpferry.qemu.defaults import default_qemu
from bpferry.qemu.monitor import Monitor, open_monitor
from bpferry.qemu.probe import bare_arguments, probe
from bpferry.qemu.questions import ask

CACHE_MS: Final = 3.0
PROBE_TIMES: Final = 1.3
PROCESS_OVER_PYTHON_MS: Final = 200.0
LINEAR_TIMES: Final = 1.3
FEW, MANY = 16, 64

DOCUMENT: Final = Path(__file__).parents[2] / "tests" / "documents" / "server.xml"
"""The whole document: a server with two cards, one of which has four queues with RSS."""

CARD: Final = """
[[cards]]
tap = "tap{number}"
queues = 4
"""


NOTHING: Final = (sys.executable, "-c", "pass")


@dataclass(slots=True)
class Steps:
    """What was timed, in nanoseconds; entries at the same place were measured in turn."""

    cache: list[int] = field(default_factory=list)
    probe: list[int] = field(default_factory=list)
    bare: list[int] = field(default_factory=list)
    process: list[int] = field(default_factory=list)
    python: list[int] = field(default_factory=list)
    many: list[int] = field(default_factory=list)
    few: list[int] = field(default_factory=list)

    def rows(self) -> dict[str, dict[str, float]]:
        """Return count, median and 99th percentile of everything, in milliseconds."""
        timed = {name: getattr(self, name) for name in self.__slots__}
        return {
            name: {
                "count": len(values),
                "p50_ms": to_ms(percentile(values, 50)),
                "p99_ms": to_ms(percentile(values, 99)),
            }
            for name, values in timed.items()
        }

    def verdicts(self) -> list[Verdict]:
        """Return what is wanted, and what came out."""
        cards = to_times(self.many, self.few) / (MANY / FEW)
        return [
            Verdict("cache", "from the cache", to_ms(percentile(self.cache, 50)), CACHE_MS, "ms"),
            Verdict("probe", "a probe, of a bare QEMU", to_times(self.probe, self.bare),
                    PROBE_TIMES, "times"),
            Verdict("process", "a dry run, over python",
                    over_ms(self.process, self.python), PROCESS_OVER_PYTHON_MS, "ms"),
            Verdict("cards", f"a card of {MANY}, of one of {FEW}", cards, LINEAR_TIMES, "times"),
        ]  # fmt: skip


def as_table(steps: Steps) -> str:
    """Return everything for a person to read."""
    lines = [f"{'':<12} {'N':>5} {'p50':>11} {'p99':>11}"]
    for name, row in steps.rows().items():
        lines.append(
            f"{name:<12} {row['count']:>5.0f} {row['p50_ms']:>8.3f} ms {row['p99_ms']:>8.3f} ms"
        )
    lines += ["", f"{'process, of python':<28} {to_times(steps.process, steps.python):>8.2f} times"]
    lines += ["", f"{'wanted':<28} {'at most':>10} {'measured':>10}"]
    for verdict in steps.verdicts():
        outcome = "met" if verdict.met else "missed"
        figures = f"{verdict.at_most:>10.1f} {verdict.value:>10.2f} {verdict.unit:<6}"
        lines.append(f"{verdict.what:<28} {figures} {outcome}")
    return "\n".join(lines) + "\n"


def as_object(steps: Steps) -> dict[str, object]:
    """Return everything as one JSON object; times are in milliseconds."""
    return {
        "times": steps.rows(),
        "ratios": {"process_to_python": to_times(steps.process, steps.python)},
        "wanted": {
            verdict.key: {
                "value": verdict.value,
                "at_most": verdict.at_most,
                "unit": verdict.unit,
                "met": verdict.met,
            }
            for verdict in steps.verdicts()
        },
        "met": all(verdict.met for verdict in steps.verdicts()),
    }


def measure(rounds: int, interrupts: Interrupts) -> Steps:
    """Measure everything in *rounds* rounds.

    Raises:
        BenchError: something could not be started.
    """
    qemu = default_qemu()
    steps = Steps()
    with own_cache() as environment:
        commands = asyncio.run(_record(qemu))
        cache.find_or_probe(qemu)
        client = install_client(Path(os.environ["XDG_CACHE_HOME"]))
        dry_run = ["env", *environment, *client, "run", "--dry-run=json", str(DOCUMENT)]
        run(dry_run)
        for _ in range(rounds):
            interrupts.check()
            steps.cache.append(_timed(lambda: cache.find_or_probe(qemu)))
            steps.probe.append(_timed(lambda: probe(qemu)))
            steps.bare.append(_timed(lambda: _ask_bare(qemu, commands)))
            steps.process.append(_timed(lambda: run(dry_run)))
            steps.python.append(_timed(lambda: run(["env", *environment, *NOTHING])))
            steps.many.append(_timed(lambda: _plan(qemu, MANY)))
            steps.few.append(_timed(lambda: _plan(qemu, FEW)))
    return steps


def _timed(work: Callable[[], object]) -> int:
    before = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - before


@contextmanager
def own_cache() -> Iterator[list[str]]:
    """Keep caches in a folder of our own; yield the environment for programs that share it."""
    with tempfile.TemporaryDirectory(prefix="bpferry-bench-") as folder:
        before = os.environ.get("XDG_CACHE_HOME")
        os.environ["XDG_CACHE_HOME"] = folder
        try:
            yield [f"XDG_CACHE_HOME={folder}"]
        finally:
            if before is None:
                del os.environ["XDG_CACHE_HOME"]
            else:
                os.environ["XDG_CACHE_HOME"] = before


def _plan(qemu: str, count: int) -> None:
    """Read, plan and build a VM with *count* cards."""
    cards = "".join(CARD.format(number=number) for number in range(count))
    text = f'name = "cards"\nmemory = "64 MiB"\naccelerator = "tcg"\nqemu = "{qemu}"\n{cards}'
    draft(read_bytes(text.encode(), Path("/cards.toml")), Silent())


class _Recorder(Monitor):
    """A monitor that keeps every command."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self.commands: list[dict[str, object]] = []

    async def execute(self, command: str, arguments: dict[str, object] | None = None) -> object:
        """Keep and ask."""
        said: dict[str, object] = {"execute": command}
        if arguments is not None:
            said["arguments"] = arguments
        self.commands.append(said)
        return await self._monitor.execute(command, arguments)


async def _record(qemu: str) -> list[dict[str, object]]:
    """Return the commands of a probe."""
    with process.socket_pair() as (ours, theirs):
        fds = [theirs.fileno()]
        with process.start_child(bare_arguments(qemu, str(fds[0])), fds):
            theirs.close()
            async with open_monitor(qemu, ours) as monitor:
                recorder = _Recorder(monitor)
                await ask(qemu, recorder)
                return recorder.commands


def _ask_bare(qemu: str, commands: list[dict[str, object]]) -> None:
    """Start *qemu* bare and wait for as many answers as there are *commands*."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        argv = bare_arguments(qemu, str(theirs.fileno()))
        with subprocess.Popen(argv, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL) as child:
            theirs.close()
            said = [{"execute": "qmp_capabilities"}, *commands]
            ours.sendall("".join(json.dumps(line) + "\n" for line in said).encode())
            count_lines(ours, len(said) + 1)
            child.kill()


def count_lines(sock: socket.socket, wanted: int) -> None:
    """Read *wanted* lines from QEMU.

    Raises:
        BenchError: it ended before.
    """
    seen = 0
    while seen < wanted:
        data = sock.recv(1 << 16)
        if not data:
            raise BenchError("QEMU ended while it was asked")
        seen += data.count(b"\n")
