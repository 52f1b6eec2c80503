# SPDX-License-Identifier: LGPL-2.1-or-later
"""A reboot of the host: an enabled VM powers down with it, and runs again when it is back."""

from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.debian_folder import BUILD_SECONDS
from tests.systemd.conftest import AS_ON_A_MACHINE, INSTALL, INSTALL_SECONDS, booted
from tests.systemd.container import Container
from tests.systemd.user_session import POLITE, user_with_vms, wait_until

pytestmark = [
    pytest.mark.system,
    pytest.mark.privileged,
    pytest.mark.slow,
    # It may have to wait for its root to be made.
    pytest.mark.timeout(BUILD_SECONDS + 600),
]

BOOT_SECONDS: Final = 240.0
"""It takes five on an idle machine."""

EMPTY_RUN: Final = "R! /run/systemd/users/*\n"
"""For tmpfiles.d(5): `systemctl soft-reboot` leaves /run as it is, where logind then reads that the
user is about to leave. A machine starts with an empty one."""

BOOTED: Final = ("systemctl", "show", "--property=UserspaceTimestampMonotonic")


@pytest.fixture
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """Return a system of its own, since a reboot takes away what other tests need.

    Only Debian 13 can restart all of its userspace: `systemctl soft-reboot` is new in systemd 254.
    """
    with booted("trixie", tmp_path_factory.mktemp("reboot")) as container:
        container.check("sh", "-c", AS_ON_A_MACHINE)
        container.check(INSTALL, timeout=INSTALL_SECONDS, fetches=True)
        container.write("/etc/tmpfiles.d/empty-run.conf", EMPTY_RUN)
        yield container


def test_enabled_vm_runs_again_after_a_reboot(system: Container) -> None:
    """The guest powers down first. Nobody logs in afterwards: the user lingers."""
    with user_with_vms(system, "ivan", lingers=True) as ivan:
        ivan.check("bpferry", "enable", POLITE)
        ivan.check("bpferry", "start", POLITE)
        assert wait_until(lambda: "hello from the boot sector" in ivan.said(), BOOT_SECONDS)
        first = system.check(*BOOTED)
        system.run("systemctl", "soft-reboot")
        assert wait_until(lambda: _has_booted_since(system, first), BOOT_SECONDS)
        assert wait_until(ivan.has_guest, BOOT_SECONDS)
        ivan.wait_for_state(POLITE, "active")

        assert ivan.runs()
        before, _, after = ivan.said().partition("the VM has stopped")
        assert "powering down" in before
        assert "stopping QEMU" not in before
        assert "starts with" in after


def _has_booted_since(system: Container, first: str) -> bool:
    """Say whether the system is up again; while it goes down, nobody answers."""
    now, state = system.run(*BOOTED), system.run("systemctl", "is-system-running")
    return now.stdout.strip() != first and state.stdout.strip() in {"running", "degraded"}
