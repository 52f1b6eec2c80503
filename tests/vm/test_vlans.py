# SPDX-License-Identifier: LGPL-2.1-or-later
"""VLANs by policy, on a kernel whose bridges filter them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.vm.freight import CLONE
from tests.vm.host import IN_THE_HOST, Host

pytestmark = [*IN_THE_HOST]

POLICY: Final = "/etc/bpferry/policy.toml"
RULES: Final = """\
[users.alice]
bridges = ["br-vlan"]
vlans = [10, "20-25"]
address-lock = true
[users.root]
bridges = ["br-vlan"]
vlans = [10, "20-25"]
address-lock = true
"""

PAGE: Final = (Path(__file__).parents[2] / "docs/administration.md").read_text(encoding="utf-8")
FILES: Final = {
    path: block
    for block in re.findall(r"^```ini\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for path in re.findall(r"^# (/etc/systemd/network/\S+)", block)
}
"""The page's files for systemd-networkd, those about VLANs among them."""

TRUNK: Final = {
    "20": {"twenty": 0, "native": 20},
    "21": {"twenty-one": 0},
    "22": {},
    "no tag": {},
    "20 of another": {},
    "21 of another": {},
    "into the trunk": {"trunk": 20, "native": 20},
    "native": {"ten": 0},
    "native 20": {"twenty": 0, "trunk": 20},
    "native 21": {},
}
"""Which taps hear each frame of the script inside, and which tag it has there."""

WITHOUT: Final = {
    "20 of another": {"twenty": 0, "native": 20},
    "21 of another": {"twenty-one": 0},
    "22": {"twenty-two": 0},
    "native 21": {"twenty-one": 0, "trunk": 21},
    "no tag": {"twenty-two": 0},
}
"""The same of those that nobody hears, once root took away what kept them in."""


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


def said_by(host: Host, script: str, user: str) -> dict[str, Any]:
    """Return what a script inside says."""
    said = host.check("python3", f"{CLONE}/tests/vm/inside/{script}", user=user, timeout=120)
    answer: dict[str, Any] = json.loads(said)
    return answer


@pytest.fixture(scope="module")
def trunks(vlan_host: Host) -> dict[str, Any]:
    """Return who heard which frame of taps in several VLANs."""
    return said_by(vlan_host, "trunks.py", user="root")


def test_ports_of_other_vlans_do_not_hear_each_other(vlan_host: Host) -> None:
    """Of three taps the two in VLAN 10 do; a VLAN that policy does not have is refused."""
    answer = said_by(vlan_host, "vlans.py", user="alice")

    assert [1] == answer["reached"]
    assert "policy allows 10, 20-25 there" in answer["refused"]


@pytest.mark.parametrize("frame", TRUNK)
def test_a_frame_passes_only_in_the_vlans_of_its_port(trunks: dict[str, Any], frame: str) -> None:
    """With the tag of one of them, from the card's own address; it loses its tag where it should.

    With address-lock, the card's address is known in each of its VLANs, and no other is in any.
    """
    assert TRUNK[frame] == trunks["heard"][frame]


@pytest.mark.parametrize("frame", WITHOUT)
def test_that_frame_passes_without_the_defence(trunks: dict[str, Any], frame: str) -> None:
    """The control: nothing else holds back what nobody heard."""
    assert (TRUNK[frame], WITHOUT[frame]) == ({}, trunks["without"][frame])


@pytest.fixture
def page_host(host: Host) -> Iterator[Host]:
    """Yield the host with a card, and systemd-networkd set up as the page says."""
    host.check("ip", "link", "add", "enp1s0", "type", "dummy")
    for path, content in FILES.items():
        host.check("mkdir", "-p", path.rpartition("/")[0])
        host.write(path, content)
    try:
        host.check("systemctl", "start", "systemd-networkd")
        host.check("networkctl", "reload")
        host.check(
            "timeout",
            "30",
            "sh",
            "-c",
            "until bridge vlan show dev enp1s0 | grep -q 25; do :; done",
        )
        yield host
    finally:
        host.check("sh", "-c", f"rm -rf {' '.join(FILES)}; networkctl reload")
        host.check("systemctl", "stop", "systemd-networkd.socket", "systemd-networkd.service")
        host.check("sh", "-c", "ip link delete br0; ip link delete enp1s0")


def test_the_page_makes_a_bridge_that_filters_vlans(page_host: Host) -> None:
    """Its port is in those that the page names, and in the first without a tag."""
    (bridge,) = json.loads(page_host.check("ip", "-json", "-details", "link", "show", "dev", "br0"))
    assert 1 == bridge["linkinfo"]["info_data"]["vlan_filtering"]
    (port,) = json.loads(page_host.check("bridge", "-json", "vlan", "show", "dev", "enp1s0"))
    found = {
        number
        for v in port["vlans"]
        for number in range(v["vlan"], v.get("vlanEnd", v["vlan"]) + 1)
    }
    assert {1, 10, *range(20, 26)} == found
