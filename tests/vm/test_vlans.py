# SPDX-License-Identifier: LGPL-2.1-or-later
"""VLANs by policy, on a kernel whose bridges filter them."""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.support.debian_folder import BUILD_SECONDS
from tests.vm.freight import CLONE
from tests.vm.host import Host

pytestmark = [
    pytest.mark.system,
    pytest.mark.privileged,
    pytest.mark.guest,
    pytest.mark.slow,
    # The first test may have to wait for the image to be made, and for the host to boot.
    pytest.mark.timeout(2 * BUILD_SECONDS),
]

POLICY: Final = "/etc/bpferry/policy.toml"
RULES: Final = """\
[users.alice]
bridges = ["br-vlan"]
vlans = [10, "20-25"]
address-lock = true
"""


@pytest.fixture(scope="module")
def vlan_host(host: Host) -> Iterator[Host]:
    """Yield the host with the bridge br-vlan, and a policy with VLANs; both are taken back."""
    before = host.check("cat", POLICY)
    host.check("ip", "link", "add", "br-vlan", "type", "bridge", "vlan_filtering", "1")
    host.check("ip", "link", "set", "br-vlan", "up")
    host.write(POLICY, RULES)
    try:
        yield host
    finally:
        host.write(POLICY, before + "\n")
        host.check("ip", "link", "del", "br-vlan")


def reached(host: Host) -> dict[str, Any]:
    """Return what the script inside says."""
    said = host.check("python3", f"{CLONE}/tests/vm/inside/vlans.py", user="alice", timeout=120)
    answer: dict[str, Any] = json.loads(said)
    return answer


def test_ports_of_other_vlans_do_not_hear_each_other(vlan_host: Host) -> None:
    """Of three taps the two in VLAN 10 do; a VLAN that policy does not have is refused."""
    answer = reached(vlan_host)

    assert [1] == answer["reached"]
    assert "policy allows 10, 20-25 there" in answer["refused"]
