# SPDX-License-Identifier: LGPL-2.1-or-later
"""The demonstration where systemd is PID 1: it makes the socket, and starts the helper."""

import json
from typing import Final

import pytest

from tests.systemd.container import CLONE, Container

pytestmark = [
    pytest.mark.system,
    pytest.mark.privileged,
    pytest.mark.kernel,
    pytest.mark.guest,
    pytest.mark.slow,
]

FLOWS: Final = 100

DEMO_SECONDS: Final = 240
"""It takes 25, most of them for fetching a kernel."""


def test_systemd_starts_the_helper_and_nothing_stays(bare_system: Container) -> None:
    """The helper is behind a real transient socket; every flow fits; no unit or folder is left."""
    command = (f"{CLONE}/tools/demo", "--json", "--flows", str(FLOWS))

    done = bare_system.run(*command, timeout=DEMO_SECONDS)

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert "systemd" == result["helper_started_by"]
    assert ("ebpf", 2 * FLOWS, 0) == (result["steering"], result["flows"], result["mismatches"])
    assert "" == bare_system.check("systemctl", "list-units", "--all", "--plain", "-q", "bpf*")
    left = bare_system.run("sh", "-c", "ls -d /run/bpferry-demo* /run/private/bpferry*")
    assert "" == left.stdout
