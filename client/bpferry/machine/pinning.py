# SPDX-License-Identifier: LGPL-2.1-or-later
"""Put QEMU's threads on the processors of the host that they should run on.

As in libvirt, QEMU starts on the processors of its emulator, so that everything before the guest
runs is done there. Then QMP says which thread is which, and each is moved to its own processors. A
thread that is made later starts on the processors of the thread that made it.
"""

import os
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bpferry.commandline.numbers import format_ranges
from bpferry.commandline.parts import ALL, EMULATOR, Affinity, Remark, Scheduling, Threads
from bpferry.errors import QemuError
from bpferry.machine.reporter import Reporter

if TYPE_CHECKING:
    from bpferry.qemu.monitor import Monitor

ONLINE: Final = Path("/sys/devices/system/cpu/online")

POLICIES: Final = {
    "batch": os.SCHED_BATCH,
    "idle": os.SCHED_IDLE,
    "fifo": os.SCHED_FIFO,
    "rr": os.SCHED_RR,
}

REAL_TIME_HINT: Final = (
    "the administrator can give you the right to real-time policies with a line 'rtprio' in "
    "/etc/security/limits.conf"
)


def online_processors(path: Path = ONLINE) -> frozenset[int]:
    """Return the online processors of this host; if it does not say, count from 0."""
    try:
        text = path.read_text(encoding="ascii").strip()
        ranges = [item.partition("-") for item in text.split(",")]
        return frozenset(
            number
            for first, _, last in ranges
            for number in range(int(first), int(last or first) + 1)
        )
    except (OSError, ValueError):
        return frozenset(range(os.cpu_count() or 1))


def find_absent(affinities: Sequence[Affinity], online: frozenset[int]) -> Iterator[Remark]:
    """Yield what the user is told of processors that are named and this host does not have."""
    for affinity in affinities:
        absent = affinity.processors - online
        if not absent:
            continue
        left = affinity.processors & online
        where = f"only on {_numbers(left)}" if left else "wherever the kernel puts it"
        yield Remark(
            f"this host has no processor {_numbers(absent)}: {affinity.threads} runs {where}",
            "",
            affinity.key,
        )


def find_forbidden(schedulings: Sequence[Scheduling]) -> Iterator[Remark]:
    """Yield what the user is told of real-time policies that this user may not use."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_RTPRIO)
    if os.geteuid() == 0 or allowed == resource.RLIM_INFINITY:
        return
    for one in schedulings:
        if one.priority > allowed:
            yield Remark(
                f"{one.threads} may not be scheduled by '{one.policy}' with priority "
                f"{one.priority}: your limit for real-time priorities is {allowed} (ulimit -r)",
                REAL_TIME_HINT,
                one.key,
            )


def _numbers(processors: frozenset[int]) -> str:
    return ", ".join(format_ranges(sorted(processors)))


def pin_process(pid: int, affinities: Sequence[Affinity], reporter: Reporter) -> None:
    """Let the process *pid*, which has just started, run where its emulator should."""
    first = _find(EMULATOR, affinities) or _find(ALL, affinities)
    if first is not None:
        _pin((pid,), first, reporter)


async def pin_threads(
    monitor: "Monitor",
    pid: int,
    affinities: Sequence[Affinity],
    schedulings: Sequence[Scheduling],
    reporter: Reporter,
) -> None:
    """Move each thread of QEMU, whose process is *pid*, to where it belongs.

    Raises:
        QemuError: QEMU ended, or does not say which thread is which.
    """
    if not schedulings and all(affinity.threads == ALL for affinity in affinities):
        return
    known = await _ask(monitor)
    ours = frozenset(os.sched_getaffinity(0))
    usual = _find(ALL, affinities) or Affinity(ours, "")
    for threads, numbers in (*known.items(), (EMULATOR, _others(pid, known))):
        _pin(numbers, _find(threads, affinities) or usual, reporter)
    for scheduling in schedulings:
        numbers = _others(pid, known) if scheduling.threads == EMULATOR else ()
        _schedule(known.get(scheduling.threads, numbers), scheduling, reporter)


async def _ask(monitor: "Monitor") -> dict[Threads, tuple[int, ...]]:
    """Return the ids of the threads that QMP names (qapi/machine.json, qapi/misc.json)."""
    known: dict[Threads, tuple[int, ...]] = {}
    for cpu in _records(await monitor.execute("query-cpus-fast")):
        known[Threads("vcpu", _number(cpu, "cpu-index"))] = (_number(cpu, "thread-id"),)
    for iothread in _records(await monitor.execute("query-iothreads")):
        name = str(iothread.get("id")).removeprefix("iothread")
        if name.isdecimal():
            known[Threads("iothread", int(name))] = (_number(iothread, "thread-id"),)
    return known


def _records(answer: object) -> Iterator[dict[object, object]]:
    if not isinstance(answer, list):
        raise QemuError("QEMU does not say which of its threads is which")
    yield from (record for record in answer if isinstance(record, dict))


def _number(record: dict[object, object], key: str) -> int:
    value = record.get(key)
    if not isinstance(value, int):
        raise QemuError(f"QEMU does not report '{key}' of its threads")
    return value


def _others(pid: int, known: dict[Threads, tuple[int, ...]]) -> tuple[int, ...]:
    """Return the threads of *pid* that are not *known*; those of vhost are among them."""
    told = {number for numbers in known.values() for number in numbers}
    try:
        found = [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return ()
    return tuple(number for number in found if number not in told)


def _find(threads: Threads, affinities: Sequence[Affinity]) -> Affinity | None:
    return next((one for one in affinities if one.threads == threads), None)


def _pin(numbers: Sequence[int], affinity: Affinity, reporter: Reporter) -> None:
    wanted = affinity.processors & online_processors()
    if not wanted:
        return  # The user was told before anything began (find_absent).
    for number in numbers:
        try:
            os.sched_setaffinity(number, wanted)
        except ProcessLookupError:
            continue
        except OSError as error:
            reporter.warn(
                f"cannot run {affinity.threads} on the processors {_numbers(wanted)}: "
                f"{error.strerror}",
                "your session may not be allowed to use them (cpuset)",
            )
            return


def _schedule(numbers: Sequence[int], scheduling: Scheduling, reporter: Reporter) -> None:
    policy = POLICIES[scheduling.policy]
    for number in numbers:
        try:
            os.sched_setscheduler(number, policy, os.sched_param(scheduling.priority))
        except ProcessLookupError:
            continue
        except OSError as error:
            if any(find_forbidden((scheduling,))):
                return  # The user was told before anything began.
            reporter.warn(
                f"cannot schedule {scheduling.threads} by '{scheduling.policy}': {error.strerror}",
                REAL_TIME_HINT if scheduling.priority else "",
            )
            return
