# SPDX-License-Identifier: LGPL-2.1-or-later
"""Limits that the systemd of a user cannot set are refused before the start.

Those that it sets are in tests/vm: a container has the controllers that are left over here.
"""

from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.debian_folder import BUILD_SECONDS
from tests.systemd.container import Container
from tests.systemd.user_session import POLITE, User, user_with_vms

pytestmark = [
    pytest.mark.system,
    pytest.mark.privileged,
    pytest.mark.slow,
    # The first test of a release may have to wait for its root to be made.
    pytest.mark.timeout(BUILD_SECONDS + 300),
]

NAME: Final = "limited"

LIMITS: Final = "[cpu-tune]\nweight = 50\nglobal-quota = 50000\n"


@pytest.fixture(scope="module")
def judy(installed_system: Container) -> Iterator[User]:
    """Return a user whose systemd runs without a session."""
    with user_with_vms(installed_system, "judy", lingers=True) as user:
        yield user


def describe(user: User, more: str) -> None:
    """Write the description of the VM, which has *more* besides its disk."""
    text = (
        f'name = "{NAME}"\nmemory = "32 MiB"\naccelerator = "tcg"\n'
        '[[serials]]\ntype = "stdio"\n'
        f'[[disks]]\nfile = "/home/{user.name}/{POLITE}.img"\nformat = "raw"\n{more}'
    )
    path = f"/home/{user.name}/.config/bpferry/vms/{NAME}.toml"
    user.check("python3", "-c", f"open({path!r}, 'w').write({text!r})")


def test_controller_that_was_not_delegated_is_refused_with_the_drop_in(judy: User) -> None:
    """A dry run says so as well, and shows the rest."""
    describe(judy, "[io-tune]\nweight = 30\n")
    done = judy.run("bpferry", "run", NAME)
    dry = judy.run("bpferry", "run", "--dry-run", NAME)

    assert 1 == done.returncode
    assert "'io-tune.weight': 'IOWeight' needs the controller 'io', which your" in done.stderr
    assert "/etc/systemd/system/user@.service.d/bpferry.conf" in done.stderr
    assert 0 == dry.returncode
    assert "your systemd limits the unit that QEMU runs in: IOWeight=30" in dry.stdout
    assert "needs the controller 'io'" in dry.stdout


def test_without_a_systemd_of_the_user_limits_are_refused(installed_system: Container) -> None:
    """Such as in a cron job; without limits the VM starts there."""
    with user_with_vms(installed_system, "mallory", lingers=False) as mallory:
        describe(mallory, LIMITS)
        done = mallory.run("bpferry", "run", NAME)

    assert 1 == done.returncode
    assert "'CPUWeight' is set by your systemd for the unit of QEMU" in done.stderr
    assert "'mallory' has no login session" in done.stderr
    assert "sudo loginctl enable-linger mallory; or remove it" in done.stderr
