# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/administration.md, a bridge that filters VLANs, by systemd-networkd of a whole Debian 13."""

import json
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.support.debian_folder import BUILD_SECONDS
from tests.systemd.test_administration import PAGE, commands, files
from tests.vm.host import Host

pytestmark = [
    pytest.mark.system,
    pytest.mark.privileged,
    pytest.mark.guest,
    pytest.mark.slow,
    # The first test may have to wait for the image to be made, and for the host to boot.
    pytest.mark.timeout(2 * BUILD_SECONDS),
]

WAY: Final = "systemd-networkd"
LINE: Final = "VLANFiltering=yes"
BRIDGE: Final = "br-networkd"
"""Not the page's: other tests have one of that name on this host."""


@pytest.fixture
def bridge(host: Host) -> Iterator[dict[str, Any]]:
    """Make the page's bridge with the line for VLANs; yield it when its port forwards."""
    host.check("ip", "link", "add", "enp1s0", "type", "veth", "peer", "name", "far")
    host.check("ip", "link", "set", "far", "up")
    written = {path: text.replace("br0", BRIDGE) for path, text in files(WAY).items()}
    for path, text in written.items():
        host.write(path, text.replace("STP=no", f"STP=no\n{LINE}"))
    for command in commands(WAY):
        host.check(*command)
    try:
        yield wait_for_bridge(host)
    finally:
        host.check("rm", *written)
        host.check("systemctl", "disable", "--now", "systemd-networkd", "systemd-networkd.socket")
        host.check("ip", "link", "delete", "enp1s0")
        host.run("ip", "link", "delete", BRIDGE)


def wait_for_bridge(host: Host, seconds: float = 60) -> dict[str, Any]:
    """Return the bridge when it has its address and its port."""
    deadline = time.monotonic() + seconds
    while True:
        shown = host.run("ip", "-json", "-details", "address", "show", "dev", BRIDGE).output
        found: dict[str, Any] = next(iter(json.loads(shown or "[]")), {})
        ports = host.run("ip", "-json", "link", "show", "master", BRIDGE).output
        addresses = [entry["local"] for entry in found.get("addr_info", ())]
        if "192.0.2.2" in addresses and "enp1s0" in ports:
            return found
        assert time.monotonic() < deadline, (found, ports)
        time.sleep(0.5)


def test_the_line_for_vlans_makes_the_bridge_filter(bridge: dict[str, Any]) -> None:
    """On a kernel that can; STP is off there too."""
    data = bridge["linkinfo"]["info_data"]

    assert f"add `{LINE}` below `STP=no`" in PAGE
    assert (1, 0) == (data["vlan_filtering"], data["stp_state"])
