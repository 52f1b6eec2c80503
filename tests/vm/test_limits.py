# SPDX-License-Identifier: LGPL-2.1-or-later
"""Limits of a VM are set by the systemd of its user, and in force in the kernel.

This host has control groups v2 with all controllers, as Debian has them on a machine.
"""

import time
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.vm.host import IN_THE_HOST, Done, Host

pytestmark = [*IN_THE_HOST, pytest.mark.qemu]

NAME: Final = "limited"

UNIT: Final = f"bpferry@{NAME}.service"

VM: Final = f'name = "{NAME}"\nmemory = "32 MiB"\naccelerator = "tcg"\n'

LIMITS: Final = (
    "[cpu-tune]\nweight = 50\nglobal-quota = 50000\n"
    '[memory-limits]\nhard = "512 MiB"\nsoft = "400 MiB"\n'
)

IN_FORCE: Final = {
    "cpu.weight": "50",
    "cpu.max": "50000 100000",
    "memory.max": str(512 << 20),
    "memory.high": str(400 << 20),
}

DELEGATE: Final = "/etc/systemd/system/user@.service.d/bpferry.conf"

PATIENCE_S: Final = 600


class Alice:
    """A user of the host whose systemd runs without a session."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.uid = host.check("id", "-u", "alice")

    def run(self, *command: str) -> Done:
        """Run *command* as in a shell of hers, and return what came of it."""
        place = ("HOME=/home/alice", f"XDG_RUNTIME_DIR=/run/user/{self.uid}")
        words = ("env", "--chdir=/home/alice", *place, *command)
        return self.host.run(*words, user="alice", timeout=PATIENCE_S)

    def check(self, *command: str) -> str:
        """Run *command* and return its output; anything but success fails the test."""
        done = self.run(*command)
        assert 0 == done.status, f"{command}: {done.output}{done.errors}"
        return done.output.strip()

    def describe(self, more: str) -> None:
        """Write the description of her VM."""
        path = f"/home/alice/.config/bpferry/vms/{NAME}.toml"
        self.host.write(path, VM + more)

    def group_of_qemu(self) -> str:
        """Return the control group of her VM's QEMU."""
        status = self.check("bpferry", "status", NAME)
        pid = status.partition("(QEMU: ")[2].partition(")")[0]
        return self.check("cat", f"/proc/{pid}/cgroup").removeprefix("0::")

    def in_force(self, group: str) -> dict[str, str]:
        """Return what the kernel says about *group*."""
        return {name: self.check("cat", f"/sys/fs/cgroup{group}/{name}") for name in IN_FORCE}

    def show(self, prop: str) -> str:
        """Return a property of her VM's unit."""
        return self.check("systemctl", "--user", "show", "--property", prop, "--value", UNIT)


def wait_until(holds: Callable[[], bool]) -> bool:
    """Return True as soon as *holds* does, or False if it takes too long."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(1)
    return True


@pytest.fixture(scope="module")
def alice(host: Host) -> Iterator[Alice]:
    """Return a user whose systemd runs."""
    user = Alice(host)
    host.check("mkdir", "-p", "/home/alice/.config/bpferry/vms")
    host.check("chown", "-R", "alice:", "/home/alice/.config")
    # As loginctl does it, which asks polkit for those who are not in a session.
    host.check("mkdir", "-p", "/var/lib/systemd/linger")
    host.check("touch", "/var/lib/systemd/linger/alice")
    host.check("systemctl", "start", f"user@{user.uid}.service", timeout=PATIENCE_S)
    # A slow host may need several times as long as a QEMU has to answer; then its answers are kept.
    assert wait_until(lambda: user.run("bpferry", "capabilities").status == 0)
    yield user
    user.run("bpferry", "stop", "--force", NAME)
    host.check("rm", "/var/lib/systemd/linger/alice")
    host.check("systemctl", "stop", f"user@{user.uid}.service", timeout=PATIENCE_S)


@pytest.fixture(autouse=True)
def nothing_stays(alice: Alice) -> Iterator[None]:
    """End what a test has left running."""
    yield
    alice.run("bpferry", "stop", "--force", NAME)
    alice.run("systemctl", "--user", "stop", UNIT)
    alice.run("systemctl", "--user", "reset-failed", UNIT)


def test_limits_are_in_force_for_the_unit_of_a_vm(alice: Alice) -> None:
    """They are properties of the VM's own unit; `status` shows what the kernel has."""
    alice.describe(LIMITS)
    alice.check("bpferry", "start", NAME)
    group = alice.group_of_qemu()

    assert group.endswith(f"/{UNIT}")
    assert IN_FORCE == alice.in_force(group)
    status = alice.check("bpferry", "status", NAME)
    assert "limit     CPUQuota=50% (cpu.max: 50000 100000)" in status
    said = f"QEMU's unit '{UNIT}' is limited: CPUWeight=50 (cpu.weight: 50)"
    assert said in alice.host.check("journalctl", "--output=cat", f"_UID={alice.uid}")


def test_limits_end_with_the_vm(alice: Alice) -> None:
    """With another description the same unit has none."""
    alice.describe(LIMITS)
    alice.check("bpferry", "start", NAME)
    alice.check("bpferry", "stop", "--force", NAME)
    assert wait_until(lambda: alice.show("ActiveState") == "inactive")
    alice.describe("")
    alice.check("bpferry", "start", NAME)
    alice.check("systemctl", "--user", "daemon-reload")

    assert "infinity" == alice.show("MemoryMax")
    assert "infinity" == alice.show("CPUQuotaPerSecUSec")


def test_in_the_foreground_qemu_alone_gets_a_scope(alice: Alice) -> None:
    """As from a login on a terminal; bpferry itself stays in the session."""
    alice.describe(LIMITS)
    alice.host.check(
        "systemd-run", "--quiet", "--collect", "--unit=desk", "-p", "User=alice",
        "-p", "PAMName=login", "-p", "WorkingDirectory=/home/alice",
        "sh", "-c", f"exec bpferry run {NAME} > /home/alice/session.out 2>&1",
    )  # fmt: skip
    said = "is limited: CPUWeight=50"
    assert wait_until(lambda: said in alice.run("cat", "session.out").output), alice.run(
        "cat", "session.out"
    )
    group = alice.group_of_qemu()
    scope = group.rpartition("/")[2]

    assert f"/user@{alice.uid}.service/" in group
    assert scope.startswith(f"bpferry-{NAME}-")
    assert scope.endswith(".scope")
    assert IN_FORCE == alice.in_force(group)
    alice.check("bpferry", "stop", "--force", NAME)
    assert wait_until(lambda: scope not in alice.check("systemctl", "--user", "list-units"))


def test_drop_in_of_the_hint_gives_the_controller(alice: Alice) -> None:
    """Debian delegates cpu, memory and pids; the refusal says what to write, and then it works."""
    alice.describe("[io-tune]\nweight = 30\n")
    refused = alice.run("bpferry", "run", NAME)
    assert 1 == refused.status
    assert "'IOWeight' needs the controller 'io', which your systemd was not" in refused.errors
    assert DELEGATE in refused.errors
    line = refused.errors.partition("'Delegate=")[2].partition("'")[0]
    alice.host.check("mkdir", "-p", DELEGATE.rpartition("/")[0])
    alice.host.write(DELEGATE, f"[Service]\nDelegate={line}\n")
    alice.host.check("systemctl", "daemon-reload")
    alice.host.check("systemctl", "restart", f"user@{alice.uid}.service", timeout=PATIENCE_S)
    alice.check("bpferry", "start", NAME)
    weight = alice.check("cat", f"/sys/fs/cgroup{alice.group_of_qemu()}/io.weight")
    alice.host.check("rm", DELEGATE)

    assert "default 30" in weight.splitlines()
