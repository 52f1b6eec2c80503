# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the unit of a user's VM says, read as a file."""

import subprocess
from pathlib import Path
from typing import Final

from bpferry.domain.stop_time import STOP_SECONDS
from bpferry.errors import BadInput, BpferryError, NoHelper, Refused, Unsupported
from bpferry.machine.service_manager import END_SECONDS
from bpferry.machine.user_manager import TEMPLATE
from tests import requires
from tests.systemd.unit_file import UNITS, read_unit, values, words

UNIT: Final = UNITS / "user" / TEMPLATE


def test_users_unit_is_understood(tmp_path: Path) -> None:
    """systemd-analyze finds nothing wrong with it, as the unit of a user, but what is not here."""
    copy = tmp_path / UNIT.name
    here = UNIT.read_text(encoding="utf-8").replace("/usr/local/bin/bpferry", "/bin/true")
    copy.write_text(here, encoding="utf-8")
    done = subprocess.run(
        [requires.program("systemd-analyze"), "--user", "--man=no", "verify", str(copy)],
        check=False,
        capture_output=True,
        text=True,
        env={"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )

    assert [] == [line for line in done.stderr.splitlines() if "bpferry@" in line]


def test_stop_is_for_bpferry_alone_and_long_enough_for_the_guest() -> None:
    """Only the main process gets the signal, and systemd waits as long as bpferry does."""
    settings = read_unit(UNIT)

    assert ["mixed"] == values(settings, "KillMode")
    assert ["2min"] == values(settings, "TimeoutStopSec")
    assert STOP_SECONDS + END_SECONDS < 120


def test_start_that_cannot_work_is_not_tried_again() -> None:
    """A wrong description and a refusal stay as they are; what was missing may come."""
    hopeless = {BadInput.status, Unsupported.status, Refused.status}
    settings = read_unit(UNIT)

    assert {str(status) for status in hopeless} == words(settings, "RestartPreventExitStatus")
    assert not hopeless & {BpferryError.status, NoHelper.status}
    assert ["on-failure"] == values(settings, "Restart")


def test_time_limits_and_restarts_have_their_reasons() -> None:
    """Above each, or above the run of settings that it is in, a comment says why."""
    given = {setting.key: setting.comment for setting in read_unit(UNIT)}
    keys = ("KillMode", "TimeoutStartSec", "TimeoutStopSec", "Restart", "RestartPreventExitStatus")

    assert all(given[key] for key in (*keys, "StartLimitBurst", "OOMPolicy"))
