# SPDX-License-Identifier: LGPL-2.1-or-later
"""Limits of a VM are set by the systemd of its user, and in force in the kernel.

This host has control groups v2 with all controllers, as Debian has them on a machine.
"""

from collections.abc import Iterator
from typing import Final

import pytest

from tests.vm.host import IN_THE_HOST, Host
from tests.vm.user import PATIENCE_S, User, lingering, wait_until

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


class Alice(User):
    """A user whose VM has limits."""

    def limit(self, more: str) -> None:
        """Write the description of her VM, with *more* in it."""
        self.describe(NAME, VM + more)

    def in_force(self, group: str) -> dict[str, str]:
        """Return what the kernel says about *group*."""
        return {name: self.check("cat", f"/sys/fs/cgroup{group}/{name}") for name in IN_FORCE}


@pytest.fixture(scope="module")
def alice(host: Host) -> Iterator[Alice]:
    """Return a user whose systemd runs."""
    with lingering(host, "alice"):
        yield Alice(host, "alice")


@pytest.fixture(autouse=True)
def nothing_stays(alice: Alice) -> Iterator[None]:
    """End what a test has left running."""
    yield
    alice.run("bpferry", "stop", "--force", NAME)
    alice.run("systemctl", "--user", "stop", UNIT)
    alice.run("systemctl", "--user", "reset-failed", UNIT)


def test_limits_are_in_force_for_the_unit_of_a_vm(alice: Alice) -> None:
    """They are properties of the VM's own unit; `status` shows what the kernel has."""
    alice.limit(LIMITS)
    alice.check("bpferry", "start", NAME)
    group = alice.group_of_qemu(NAME)

    assert group.endswith(f"/{UNIT}")
    assert IN_FORCE == alice.in_force(group)
    status = alice.check("bpferry", "status", NAME)
    assert "limit     CPUQuota=50% (cpu.max: 50000 100000)" in status
    said = f"QEMU's unit '{UNIT}' is limited: CPUWeight=50 (cpu.weight: 50)"
    assert said in alice.host.check("journalctl", "--output=cat", f"_UID={alice.uid}")


def test_limits_end_with_the_vm(alice: Alice) -> None:
    """With another description the same unit has none."""
    alice.limit(LIMITS)
    alice.check("bpferry", "start", NAME)
    alice.check("bpferry", "stop", "--force", NAME)
    assert wait_until(lambda: alice.show(UNIT, "ActiveState") == "inactive")
    alice.limit("")
    alice.check("bpferry", "start", NAME)
    alice.check("systemctl", "--user", "daemon-reload")

    assert "infinity" == alice.show(UNIT, "MemoryMax")
    assert "infinity" == alice.show(UNIT, "CPUQuotaPerSecUSec")


def test_in_the_foreground_qemu_alone_gets_a_scope(alice: Alice) -> None:
    """As from a login on a terminal; bpferry itself stays in the session."""
    alice.limit(LIMITS)
    alice.host.check(
        "systemd-run", "--quiet", "--collect", "--unit=desk", "-p", "User=alice",
        "-p", "PAMName=login", "-p", "WorkingDirectory=/home/alice",
        "sh", "-c", f"exec bpferry run {NAME} > /home/alice/session.out 2>&1",
    )  # fmt: skip
    said = "is limited: CPUWeight=50"
    assert wait_until(lambda: said in alice.run("cat", "session.out").output), alice.run(
        "cat", "session.out"
    )
    group = alice.group_of_qemu(NAME)
    scope = group.rpartition("/")[2]

    assert f"/user@{alice.uid}.service/" in group
    assert scope.startswith(f"bpferry-{NAME}-")
    assert scope.endswith(".scope")
    assert IN_FORCE == alice.in_force(group)
    alice.check("bpferry", "stop", "--force", NAME)
    assert wait_until(lambda: scope not in alice.check("systemctl", "--user", "list-units"))


def test_drop_in_of_the_hint_gives_the_controller(alice: Alice) -> None:
    """Debian delegates cpu, memory and pids; the refusal says what to write, and then it works."""
    alice.limit("[io-tune]\nweight = 30\n")
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
    weight = alice.check("cat", f"/sys/fs/cgroup{alice.group_of_qemu(NAME)}/io.weight")
    alice.host.check("rm", DELEGATE)

    assert "default 30" in weight.splitlines()
