# SPDX-License-Identifier: LGPL-2.1-or-later
"""The demonstration where systemd is PID 1: it makes the sockets, and starts the helpers."""

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


def test_systemd_starts_both_helpers_and_nothing_stays(bare_system: Container) -> None:
    """Both helpers are behind transient sockets; every flow fits; no unit or folder is left."""
    # The container's own, which is as closed as this machine's; udev opens a host's.
    assert "devtmpfs" != bare_system.check("findmnt", "-no", "FSTYPE", "--target", "/dev/net/tun")
    bare_system.check("chmod", "0666", "/dev/net/tun")
    command = (f"{CLONE}/tools/demo", "--json", "--flows", str(FLOWS))

    done = bare_system.run(*command, timeout=DEMO_SECONDS, fetches=True)

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert "systemd" == result["helper_started_by"]
    assert ("ebpf", 3 * FLOWS, 0) == (result["steering"], result["flows"], result["mismatches"])
    assert [] == [exchange for exchange in result["exchanges"] if not exchange["came_back"]]
    assert "" == bare_system.check("systemctl", "list-units", "--all", "--plain", "-q", "bpf*")
    left = bare_system.run("sh", "-c", "ls -d /run/bpferry-demo* /run/private/bpferry*")
    assert "" == left.stdout
