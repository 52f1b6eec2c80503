# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel enforces the limits of a helper's unit and those of a VM.

Each is exceeded: by a greedy program in the helper's place, with all that its unit says, and by
guests that keep their processor busy. The same program without these settings is the control.
This host has control groups v2 with all controllers, and one processor for all.
"""

import itertools
import re
import time
from collections.abc import Iterator, Sequence
from typing import Final

import pytest

from tests.systemd.unit_file import UNITS, build_probe_unit, read_unit, values
from tests.vm.freight import CLONE
from tests.vm.host import IN_THE_HOST, Host
from tests.vm.user import User, lingering, wait_until

pytestmark = [*IN_THE_HOST, pytest.mark.qemu]

ROLES: Final = ("tap",)
"""Whose units are tried."""

NUMBERS: Final = itertools.count(1)
"""Of units. systemd reads one that it has not heard of when that is started; to read all units
again, since one has changed, takes seconds in this host."""

PRINTED: Final = "/run/greedy.out"

NO_LIMIT: Final = 32
"""More threads than a helper may have."""

OVER_MIB: Final = 32

MEASURED_S: Final = 4.0
"""Many of the kernel's periods, which are of 0.1 s."""

VM: Final = """\
name = "{name}"
memory = "32 MiB"
accelerator = "tcg"

[[serials]]
type = "null"

[[disks]]
file = "/home/alice/{name}.img"
format = "raw"

{limits}
"""

VMS: Final = ("light", "heavy", "slow", "large")

BUSY_DISKS: Final = f"""
import sys
from pathlib import Path
sys.path.append("{CLONE}")
from tests.client import guest
for name in {VMS}:
    guest.write_busy_disk(Path("/home/alice", name + ".img"))
"""


def setting(role: str, key: str) -> str:
    """Return the value of *key* in the unit of the helper *role*."""
    (value,) = values(read_unit(UNITS / f"bpferry-{role}.service"), key)
    return value


def mib(size: str) -> int:
    """Return a *size* of the units in MiB."""
    return int(size.removesuffix("M"))


def write_unit(host: Host, role: str, words: str, more: str = "") -> str:
    """Write a unit that is greedy in the place of the helper *role*, and return its name.

    For no role, it is in no limits.
    """
    name = f"greedy-{next(NUMBERS)}.service"
    command = f"/usr/bin/python3 -I -B {CLONE}/tests/vm/inside/greedy.py {words}"
    file = UNITS / f"bpferry-{role or ROLES[0]}.service"
    text = build_probe_unit(file, command, PRINTED, sandboxed=bool(role))
    # Its profile would not let it read that program.
    host.write(f"/run/systemd/system/{name}", f"{text}AppArmorProfile=\n{more}")
    return name


def be_greedy(host: Host, role: str, words: str, more: str = "") -> tuple[str, str]:
    """Let it run to its end; return how systemd says that it ended, and what it printed."""
    host.check("rm", "-f", PRINTED)
    unit = write_unit(host, role, words, more)
    host.run("systemctl", "start", unit)
    result = host.check("systemctl", "show", "--property=Result", "--value", unit)
    host.run("systemctl", "reset-failed", unit)
    return result, host.check("cat", PRINTED)


def used_s(host: Host, groups: Sequence[str]) -> list[float]:
    """Return the processor time that each of these control groups has used."""
    said = host.check("cat", *(f"/sys/fs/cgroup{group}/cpu.stat" for group in groups))
    return [int(used) / 1e6 for used in re.findall(r"^usage_usec (\d+)$", said, re.MULTILINE)]


def used_meanwhile(host: Host, *groups: str) -> list[float]:
    """Return the part of the processor that each of *groups* has had for a while."""
    began, before = time.monotonic(), used_s(host, groups)
    # Not a wait for something to happen: it is what is measured.
    time.sleep(MEASURED_S)
    after, took = used_s(host, groups), time.monotonic() - began
    return [(later - earlier) / took for earlier, later in zip(before, after, strict=True)]


@pytest.mark.parametrize("role", ROLES)
def test_helper_has_no_more_threads_than_its_unit_says(host: Host, role: str) -> None:
    """TasksMax=, at which clone(2) fails; nothing else stands in the way."""
    limit = setting(role, "TasksMax")

    assert ("success", limit) == be_greedy(host, role, f"threads {NO_LIMIT}")
    assert ("success", str(NO_LIMIT)) == be_greedy(host, "", f"threads {NO_LIMIT}")


@pytest.mark.parametrize("role", ROLES)
def test_helper_with_too_much_memory_is_killed(host: Host, role: str) -> None:
    """MemoryMax=; without MemoryHigh=, under which it would take minutes to come so far."""
    words = f"memory {mib(setting(role, 'MemoryMax')) + OVER_MIB}"

    assert ("oom-kill", "") == be_greedy(host, role, words, "MemoryHigh=infinity\n")
    assert ("success", "0") == be_greedy(host, "", words)


@pytest.mark.parametrize("role", ROLES)
def test_helper_with_much_memory_is_slowed_down(host: Host, role: str) -> None:
    """MemoryHigh=: the kernel counts how often it made the helper wait."""
    high = mib(setting(role, "MemoryHigh"))
    result, waits = be_greedy(host, role, f"memory {high}")

    assert "success" == result
    assert int(waits) > 0
    assert ("success", "0") == be_greedy(host, role, f"memory {high - OVER_MIB}")


@pytest.mark.parametrize("role", ROLES)
def test_busy_helper_leaves_the_processor_to_others(host: Host, role: str) -> None:
    """CPUWeight=20: with another service that is as busy, it has a sixth."""
    greedy, free = write_unit(host, role, "processor"), write_unit(host, "", "processor")
    try:
        host.check("systemctl", "start", "--no-block", greedy, free)
        assert wait_until(lambda: is_starting(host, greedy) and is_starting(host, free))
        ours, others = used_meanwhile(host, f"/system.slice/{greedy}", f"/system.slice/{free}")
    finally:
        host.check("systemctl", "stop", greedy, free)
        host.run("systemctl", "reset-failed", greedy, free)

    assert ours + others > 0.5
    assert 0.1 < ours / others < 0.3


def is_starting(host: Host, unit: str) -> bool:
    """Return whether the program of a unit of these runs, which is until it ends by itself."""
    return host.run("systemctl", "is-active", unit).output.strip() == "activating"


@pytest.fixture(scope="module")
def alice(host: Host) -> Iterator[User]:
    """Return a user with disks whose guests are always busy."""
    with lingering(host, "alice") as user:
        user.check("python3", "-B", "-c", BUSY_DISKS)
        yield user


@pytest.fixture(autouse=True)
def nothing_stays(request: pytest.FixtureRequest) -> Iterator[None]:
    """End the VMs that a test has started."""
    yield
    if "alice" in request.fixturenames:
        user: User = request.getfixturevalue("alice")
        for name in set(VMS).intersection(re.findall(r"bpferry@(\w+)", units_of_vms(user))):
            user.run("bpferry", "stop", "--force", name)
        assert wait_until(lambda: units_of_vms(user) == "")


def units_of_vms(user: User) -> str:
    """Return what systemd says of each unit of a VM that has processes."""
    states = "--state=active,activating,deactivating"
    return user.check("systemctl", "--user", "list-units", "--no-legend", states, "bpferry@*")


def start(user: User, name: str, limits: str) -> str:
    """Start a busy VM with *limits*; return the control group of its unit."""
    user.describe(name, VM.format(name=name, limits=limits))
    user.check("bpferry", "start", name)
    return user.group_of_qemu(name)


def test_vms_share_the_processor_by_their_weights(alice: User) -> None:
    """25 and 100: both are busy, and one has four times as much as the other."""
    light = start(alice, "light", "[cpu-tune]\nweight = 25\n")
    heavy = start(alice, "heavy", "[cpu-tune]\nweight = 100\n")
    little, much = used_meanwhile(alice.host, light, heavy)

    assert little + much > 0.5
    assert 0.15 < little / much < 0.4


def test_vm_has_no_more_of_the_processor_than_its_quota(alice: User) -> None:
    """A fifth of one processor, which nobody else wants; it had all of that."""
    group = start(alice, "slow", "[cpu-tune]\nglobal-quota = 20000\n")
    (used,) = used_meanwhile(alice.host, group)

    assert 0.12 < used < 0.25


def test_vm_with_too_much_memory_is_ended_with_the_reason(alice: User) -> None:
    """QEMU itself does not fit into 16 MiB."""
    alice.describe("large", VM.format(name="large", limits='[memory-limits]\nhard = "16 MiB"\n'))
    done = alice.run("bpferry", "run", "large")

    assert 1 == done.status
    assert "OOM killer" in done.errors
