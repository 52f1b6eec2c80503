# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMU's threads on the processors of the host that the description names."""

import contextlib
import os
import resource
from pathlib import Path

import pytest

from bpferry.commandline.parts import ALL, EMULATOR, Affinity, Scheduling, Threads
from bpferry.machine.pinning import (
    _schedule,
    find_absent,
    find_forbidden,
    online_processors,
    pin_process,
)
from tests import requires
from tests.client.running import BASE, DISK, start
from tests.client.support import Record

TUNED = """\
vcpus = 2
iothreads = 1
[cpu-tune]
emulator = "0"
[[cpu-tune.vcpus]]
vcpu = 0
processors = "1"
[[cpu-tune.iothreads]]
iothread = 1
processors = "1"
[[cpu-tune.vcpu-schedulers]]
vcpus = "1"
policy = "idle"
"""


def allowed(qemu: int) -> dict[str, set[frozenset[int]]]:
    """Return where the threads of *qemu* may run, by their names."""
    found: dict[str, set[frozenset[int]]] = {}
    for entry in Path(f"/proc/{qemu}/task").iterdir():
        # A thread that QEMU had for one piece of work may end meanwhile.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            name = (entry / "comm").read_text(encoding="utf-8").strip()
            found.setdefault(name, set()).add(frozenset(os.sched_getaffinity(int(entry.name))))
    return found


@pytest.mark.qemu
def test_threads_are_where_they_belong(tmp_path: Path) -> None:
    """Each thread runs on its own processors, one without a place on all, and then the guest."""
    requires.processors(2)
    everywhere = frozenset(os.sched_getaffinity(0))
    with start(tmp_path, BASE + TUNED + DISK) as run:
        qemu = run.qemu()
        assert run.says("hello from the boot sector")
        found = allowed(qemu)

        assert found["CPU 0/TCG"] == {frozenset({1})}
        assert found["CPU 1/TCG"] == {everywhere}
        assert found["IO iothread1"] == {frozenset({1})}
        assert found["qemu-system-x86"] == {frozenset({0})}
        assert policy_of(qemu, "CPU 1/TCG") == os.SCHED_IDLE
        assert policy_of(qemu, "CPU 0/TCG") == os.SCHED_OTHER
        assert "the VM continues" not in run.err()


def policy_of(qemu: int, name: str) -> int:
    """Return how the thread *name* of *qemu* is scheduled."""
    for entry in Path(f"/proc/{qemu}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if (entry / "comm").read_text(encoding="utf-8").strip() == name:
                return os.sched_getscheduler(int(entry.name))
    raise AssertionError(name)


@pytest.mark.qemu
def test_absent_processors_are_told(tmp_path: Path) -> None:
    """A processor that this host does not have is named before the VM starts, and it starts."""
    text = BASE + '[cpu-tune]\nemulator = "0,4000"\n[[cpu-tune.vcpus]]\nvcpu = 0\n'
    with start(tmp_path, text + 'processors = "4001"\n' + DISK) as run:
        assert run.says("hello from the boot sector")
        assert "this host has no processor 4000: the emulator runs only on 0" in run.err()
        assert "has no processor 4001: processor 0 of the guest runs wherever" in run.err()


def test_processors_that_are_online(tmp_path: Path) -> None:
    """The kernel's list is read; where there is none, the number of processors counts."""
    path = tmp_path / "online"
    path.write_text("0-2,5\n", encoding="ascii")

    assert online_processors(path) == frozenset({0, 1, 2, 5})
    assert 0 in online_processors(tmp_path / "nothing")


def test_nothing_is_said_of_processors_that_are_there() -> None:
    """Who names what the host has is told nothing."""
    affinity = Affinity(frozenset({0, 1}), "vcpu-affinity", ALL)

    assert [] == list(find_absent([affinity], frozenset(range(4))))


def test_process_begins_where_its_emulator_is() -> None:
    """A process that has just started is put on the emulator's processors, not on all of QEMU's."""
    before = os.sched_getaffinity(0)
    first = min(before)
    affinities = [
        Affinity(frozenset(before), "vcpu-affinity", ALL),
        Affinity(frozenset({first}), "cpu-tune.emulator", EMULATOR),
    ]
    try:
        pin_process(os.getpid(), affinities, Record())
        assert os.sched_getaffinity(0) == {first}
    finally:
        os.sched_setaffinity(0, before)


def test_policy_that_the_kernel_does_not_give() -> None:
    """A real-time policy that cannot be had is a warning with what to do."""
    record = Record()
    # Root may have any policy, so that the kernel has to refuse the priority here.
    _schedule([os.getpid()], Scheduling("fifo", 1000, "x", Threads("vcpu", 0)), record)

    (warning,) = record.texts("warning")
    assert warning.startswith("cannot schedule processor 0 of the guest by 'fifo': ")
    assert "limits.conf" in warning


def test_thread_that_is_gone_is_passed_over() -> None:
    """A thread that ended in the meantime is not a fault."""
    record = Record()
    _schedule([2**22 - 1], Scheduling("idle", 0, "x", Threads("vcpu", 0)), record)

    assert [] == record.all


@pytest.mark.parametrize(("limit", "told"), [(0, 1), (9, 1), (10, 0), (-1, 0)])
def test_a_priority_above_the_limit_is_told_before_the_start(
    limit: int, told: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user with a lower RLIMIT_RTPRIO does not get the real-time policy."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (limit, limit))
    found = [*find_forbidden((Scheduling("fifo", 10, "key", EMULATOR),))]

    assert told == len(found)
    assert all("(ulimit -r)" in one.text and one.hint for one in found)
