# SPDX-License-Identifier: LGPL-2.1-or-later
"""How much a user with few requests notices of others who flood the helper.

For each kind of flood, by one user and by 64, another user connects and asks some times a second:
for a hello, and for a load with its four file descriptors. Like the client, this user tries again
while the queue of connections is full. The policy's rate limits are the defaults.

The floods run at a lower priority than the helper: on a real host they are processes of users,
while the helper has its own share of the CPUs (CPUWeight= in its unit).
"""

import os
import platform
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.activated import Place, listening, make_place
from benchmarks.command import BenchError, ending
from benchmarks.figures import NS_PER_MS, Verdict, percentile
from benchmarks.flood import KINDS
from benchmarks.handover import FOLDER
from benchmarks.installed import install_copy
from benchmarks.interrupts import Interrupts
from benchmarks.object import OBJECT_ID, CarriedObject
from benchmarks.progress import show_progress
from benchmarks.report import cpus, verdict_line, wanted
from bpferry_wire import channel
from bpferry_wire.errors import WireError
from bpferry_wire.messages import ErrorReply, Hello, Load, Request
from bpferry_wire.packets import decode_reply, encode_request

GID: Final = 61_000
VICTIM: Final = 61_001
FIRST_UID: Final = 61_100
MANY: Final = 64
PROCESSES: Final = 4
"""How many processes flood together, if there are many users."""

NICE: Final = ("nice", "-n", "10")
ANSWER_S: Final = 15.0
"""The client waits as long for an answer."""

PAUSE_S: Final = 0.05
"""Between two requests of the user who does not flood."""

LOAD_EVERY: Final = 8
"""One of so many requests is a load: two or three a second, which the rate limit allows."""

ENOUGH_FAILURES: Final = 3
"""With so many, the user counts as shut out: each may take ANSWER_S."""

P99_MS: Final = 500.0
SETTLES_S: Final = 0.5
"""How long a flood takes to fill the queues."""

POLICY: Final = """\
[load]
groups = [{gid}]
users = [{users}]
"""
"""The uids have no name on the host. If the policy names them by number, they are accounts."""


@dataclass(frozen=True, slots=True)
class Row:
    """One flood, and the results of the other user's requests; times in nanoseconds."""

    flood: str
    users: int
    hello: list[int] = field(default_factory=list)
    load: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def measure(carried: CarriedObject, rounds: int, interrupts: Interrupts) -> list[Row]:
    """Measure *rounds* requests without a flood, and under each flood.

    Raises:
        BenchError: something could not be started.
        Interrupted: on a signal, after everything has been stopped.
    """
    cases = [("none", 0), *((kind, users) for kind in KINDS for users in (1, MANY))]
    rows = []
    with _helper() as place:
        requests = Hello(), Load(OBJECT_ID, carried.digest)
        # For the very first load the helper reads every QEMU.
        _ask_ns(place, requests[1])
        for done, (kind, users) in enumerate(cases):
            interrupts.check()
            show_progress("floods", done, len(cases))
            row = Row(kind, users)
            with _flood(place, kind, users):
                _fare(place, requests, row, rounds)
            rows.append(row)
        show_progress("floods", len(cases), len(cases))
    return rows


@contextmanager
def _helper() -> Iterator[Place]:
    """Run a helper that all users of this bench may ask."""
    with tempfile.TemporaryDirectory(prefix="bpferry-bench-", dir=FOLDER) as name:
        folder = Path(name)
        place = make_place(folder, install_copy(folder))
        uids = (VICTIM, *range(FIRST_UID, FIRST_UID + MANY))
        text = POLICY.format(gid=GID, users=", ".join(map(str, uids)))
        (folder / "etc/bpferry/policy.toml").write_text(text)
        with listening(place, paced=False):
            place.socket.parent.chmod(0o755)
            os.chown(place.socket, 0, GID)
            place.socket.chmod(0o660)
            yield place


@contextmanager
def _flood(place: Place, kind: str, users: int) -> Iterator[None]:
    """Flood as *users* users until the block is left."""
    uids = [str(uid) for uid in range(FIRST_UID, FIRST_UID + users)]
    count = min(PROCESSES, users)
    processes = [_start(place, kind, uids[at::count]) for at in range(count)]
    try:
        time.sleep(SETTLES_S)
        yield
    finally:
        for process in processes:
            with ending(process):
                pass
        time.sleep(SETTLES_S)


def _start(place: Place, kind: str, uids: list[str]) -> subprocess.Popen[str]:
    command = [*NICE, sys.executable, "-B", "-m", "benchmarks.flood", kind, str(place.socket)]
    process = subprocess.Popen(
        [*command, str(GID), *uids],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    if process.stdout.readline() != "flooding\n":
        raise BenchError(f"cannot flood with {kind}")
    return process


def _fare(place: Place, requests: tuple[Request, Request], row: Row, rounds: int) -> None:
    hello, load = requests
    for number in range(rounds):
        is_load = number % LOAD_EVERY == LOAD_EVERY - 1
        try:
            took_ns = _ask_ns(place, load if is_load else hello)
        except (OSError, WireError, BenchError) as error:
            row.failures.append(str(error) or type(error).__name__)
        else:
            (row.load if is_load else row.hello).append(took_ns)
        if len(row.failures) >= ENOUGH_FAILURES:
            return
        time.sleep(PAUSE_S)


def _ask_ns(place: Place, request: Request) -> int:
    """Connect and ask as the user who does not flood; return how long that took."""
    started = time.perf_counter_ns()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.settimeout(ANSWER_S)
        _connect(sock, place)
        channel.send(sock, encode_request(request))
        packet = channel.receive(sock)
    took_ns = time.perf_counter_ns() - started
    packet.fds.close()
    reply = decode_reply(packet.data, request)
    if isinstance(reply, ErrorReply):
        raise BenchError(f"the helper refused: {reply.message}")
    return took_ns


def _connect(sock: socket.socket, place: Place) -> None:
    """Connect as the client does."""
    deadline = time.monotonic() + ANSWER_S
    while True:
        groups = os.getgroups()
        os.setgroups([GID])
        os.seteuid(VICTIM)
        try:
            sock.connect(str(place.socket))
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
        else:
            return
        finally:
            os.seteuid(0)
            os.setgroups(groups)
        time.sleep(random.uniform(0.001, 0.005))  # noqa: S311 - nobody gains by guessing


def verdicts(rows: list[Row]) -> list[Verdict]:
    """Return the wanted values and the results of *rows*."""
    floods = [row for row in rows if row.users]
    hello = max(_ms(row.hello, 99) for row in floods)
    load = max(_ms(row.load, 99) for row in floods)
    failures = sum(len(row.failures) for row in floods)
    return [
        Verdict("hello_p99", "a greeting under any flood, p99", hello, P99_MS, "ms"),
        Verdict("load_p99", "a load under any flood, p99", load, P99_MS, "ms"),
        Verdict("failures", "requests that failed", failures, 0.0, ""),
    ]


def _ms(times: list[int], percent: float) -> float:
    """Return a percentile in milliseconds; infinity if nothing was answered."""
    return percentile(times, percent) / NS_PER_MS if times else float("inf")


def as_object(rows: list[Row]) -> dict[str, object]:
    """Return everything as one JSON object; times are in milliseconds."""
    found = verdicts(rows)
    return {
        "machine": {"kernel": platform.release(), "cpus": cpus()},
        "floods": [_as_fields(row) for row in rows],
        "wanted": {verdict.key: wanted(verdict) for verdict in found},
        "met": all(verdict.met for verdict in found),
    }


def _as_fields(row: Row) -> dict[str, object]:
    times = {
        f"{what}_p{percent}_ms": _ms(getattr(row, what), percent)
        for what in ("hello", "load")
        for percent in (50, 99)
    }
    return {"flood": row.flood, "users": row.users, **times, "failures": len(row.failures)}


def as_table(rows: list[Row]) -> str:
    """Return everything for a person to read."""
    lines = [
        f"Linux {platform.release()}, {cpus()} processors",
        "",
        f"{'':<22} {'a greeting':^23} {'a load':^23}",
        f"{'flood':<16} {'users':>5} {'p50':>11} {'p99':>11} {'p50':>11} {'p99':>11} {'failed':>7}",
        *(_row_line(row) for row in rows),
        "",
        f"{'wanted':<36} {'at most':>10} {'measured':>10}",
        *(verdict_line(verdict) for verdict in verdicts(rows)),
        *sorted({f"failed: {why}" for row in rows for why in row.failures}),
    ]
    return "\n".join(lines) + "\n"


def _row_line(row: Row) -> str:
    times = (_ms(times, percent) for times in (row.hello, row.load) for percent in (50, 99))
    columns = " ".join(f"{ms:>8.2f} ms" for ms in times)
    return f"{row.flood:<16} {row.users:>5} {columns} {len(row.failures):>7}"
