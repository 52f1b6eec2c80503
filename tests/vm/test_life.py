# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM under the systemd of its user on a host with vhost, which also restarts.

The guest is a boot sector, which says so when it powers down since somebody has pressed its power
button. Other tests have a Linux here, which takes half a minute to boot in an emulated host.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.support.debian_folder import BUILD_SECONDS
from tests.vm.freight import CLONE
from tests.vm.host import IN_THE_HOST, Host
from tests.vm.user import PATIENCE_S, User, lingering, wait_until

pytestmark = [
    # The host boots twice. The first of these marks counts.
    pytest.mark.timeout(3 * BUILD_SECONDS),
    *IN_THE_HOST,
    pytest.mark.qemu,
]

NAME: Final = "steady"
UNIT: Final = f"bpferry@{NAME}.service"

QUEUES: Final = 4

VM: Final = f"""\
name = "{NAME}"
memory = "32 MiB"
accelerator = "kvm"
stop-timeout = 600
# While the host starts, a helper may take longer than it is waited for; then the VM starts again.
require-ebpf = true

[[serials]]
type = "stdio"
log = "{{home}}/{NAME}.console"
log-append = true

[[cards]]
bridge = "br0"
queues = {QUEUES}
rss = true

[[disks]]
file = "{{home}}/{NAME}.img"
format = "raw"
"""

MAKE: Final = f"""
import sys
from pathlib import Path
sys.path.append("{CLONE}")
from tests.client import guest
guest.write_obedient_disk(Path("{NAME}.img"))
"""

GREETING: Final = "hello from the boot sector"
POWERED_DOWN: Final = "powering down"
"""The guest's own words, after it has seen its power button."""

CUT_OFF: Final = "stopping QEMU"
"""Ours, if a guest does not power down."""

SHUTDOWN: Final = "/etc/systemd/system/user@.service.d/patience.conf"
BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


@pytest.fixture(scope="module")
def alice(host: Host) -> Iterator[User]:
    """Return a user whose systemd runs, and has as much time at a shutdown as it needs here."""
    host.check("mkdir", "-p", SHUTDOWN.rpartition("/")[0])
    host.write(SHUTDOWN, f"[Service]\nTimeoutStopSec={PATIENCE_S:g}\n")
    host.check("systemctl", "daemon-reload", timeout=PATIENCE_S)
    with lingering(host, "alice") as user:
        user.check("python3", "-B", "-c", MAKE)
        user.describe(NAME, VM.format(home="/home/alice"))
        yield user
    host.check("rm", SHUTDOWN)


@pytest.fixture(autouse=True)
def nothing_stays(alice: User) -> Iterator[None]:
    """End what a test has left running."""
    yield
    alice.run("bpferry", "disable", NAME)
    alice.run("bpferry", "stop", "--force", NAME)
    alice.run("systemctl", "--user", "stop", UNIT)


def wrote(alice: User) -> str:
    """Return all that her guest has written on its console."""
    return alice.run("cat", f"{NAME}.console").output


def greets(alice: User, before: str) -> bool:
    """Wait until the guest has greeted after it had written *before*."""
    return wait_until(lambda: GREETING in wrote(alice).removeprefix(before))


def card_of(alice: User) -> dict[str, Any]:
    """Return what `bpferry status` says of the VM's one card."""
    (card,) = json.loads(alice.check("bpferry", "status", NAME, "--json"))["cards"]
    assert isinstance(card, dict)
    return card


def vhost_fds(alice: User) -> int:
    """Return how many fds of vhost-net QEMU has open."""
    status = alice.check("bpferry", "status", NAME)
    pid = re.findall(r"\(QEMU: (\d+)\)", status)[0]
    return alice.host.check("ls", "-l", f"/proc/{pid}/fd").count("-> /dev/vhost-net")


def seen(alice: User) -> tuple[str, bool, int]:
    """Return how the card is steered, whether it has vhost, and for how many queues."""
    card = card_of(alice)
    return card["steering"], card["vhost"], vhost_fds(alice)


def test_vm_of_a_unit_has_vhost_and_is_powered_down(alice: User) -> None:
    """`systemctl --user start` and `stop`; the unit has not failed."""
    said, written = alice.said(UNIT), wrote(alice)
    alice.check("systemctl", "--user", "start", UNIT)
    assert ("active", "the VM runs") == (
        alice.show(UNIT, "ActiveState"),
        alice.show(UNIT, "StatusText"),
    )
    assert greets(alice, written)
    assert ("ebpf", True, QUEUES) == seen(alice)
    alice.check("systemctl", "--user", "stop", UNIT)

    assert POWERED_DOWN in wrote(alice).removeprefix(written)
    assert CUT_OFF not in alice.said(UNIT).removeprefix(said)
    assert ("inactive", "success") == (
        alice.show(UNIT, "ActiveState"),
        alice.show(UNIT, "Result"),
    )


def test_enabled_vm_runs_again_after_a_restart_of_the_host(alice: User) -> None:
    """Its guest was powered down first. Nobody logs in afterwards: the user lingers."""
    said, written = alice.said(UNIT), wrote(alice)
    alice.check("bpferry", "enable", NAME)
    alice.check("bpferry", "start", NAME)
    assert greets(alice, written)
    boot = alice.host.check("cat", BOOT_ID)
    alice.host.restart()
    assert boot != alice.host.check("cat", BOOT_ID)
    first, end, _ = wrote(alice).removeprefix(written).partition(POWERED_DOWN)

    assert (1, POWERED_DOWN) == (first.count(GREETING), end)
    assert CUT_OFF not in alice.said(UNIT).removeprefix(said)
    assert greets(alice, f"{written}{first}{end}")
    assert ("ebpf", True, QUEUES) == seen(alice)
