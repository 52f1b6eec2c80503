# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/administration.md, done as it says: each way to a bridge, and an installation's life."""

import json
import re
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.debian_folder import BUILD_SECONDS
from tests.systemd.conftest import AS_ON_A_MACHINE
from tests.systemd.container import CLONE, Container
from tests.systemd.helper_unit import PYTHON
from tests.systemd.installation import INSTALL_SECONDS

pytestmark = [
    pytest.mark.system,
    pytest.mark.privileged,
    pytest.mark.slow,
    # The first test of a release may have to wait for its root to be made.
    pytest.mark.timeout(BUILD_SECONDS + 300),
]

PAGE: Final = (Path(__file__).parents[2] / "docs/administration.md").read_text(encoding="utf-8")

FETCH_SECONDS: Final = 300

CARD: Final = "enp1s0"
"""The page's card; here it is one end of a pair."""

PACKAGES: Final = {
    "systemd-networkd": "",
    "ifupdown": "ifupdown bridge-utils",
    "NetworkManager": "network-manager",
}
"""For each way to a bridge, those of Debian's packages that the booted system lacks."""

# Not to be started by the installation: the test does what the page says.
FETCH: Final = """
set -e
printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d
chmod +x /usr/sbin/policy-rc.d
apt-get update
DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends {packages}
rm /usr/sbin/policy-rc.d
"""

BEFORE: Final = {"NetworkManager": ("systemctl", "start", "NetworkManager")}

AFTER: Final = {
    "systemd-networkd": "systemctl disable --now systemd-networkd{,.socket}; ip link delete br0",
    "ifupdown": "ifdown br0",
    "NetworkManager": "nmcli connection delete br0 br0-port; systemctl stop NetworkManager;"
    "ip link delete br0",
}


def section(title: str) -> str:
    """Return what the page has below the heading *title*, up to the next one."""
    return re.split(r"^##+ ", PAGE.split(f"# {title}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def blocks(title: str) -> list[str]:
    """Return the fenced blocks of a section."""
    return re.findall(r"^```\w+\n(.*?)^```", section(title), re.MULTILINE | re.DOTALL)


def files(title: str) -> dict[str, str]:
    """Return the files of a section: blocks whose first line is a path."""
    first = re.compile(r"# (/etc/\S+)\n")
    return {found[1]: block for block in blocks(title) if (found := first.match(block))}


def commands(title: str) -> list[list[str]]:
    """Return the commands of a section, without sudo."""
    console = re.findall(r"^```console\n(.*?)^```", section(title), re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line) for block in console for line in block.splitlines()]
    return [line[1:] if line[0] == "sudo" else line for line in lines]


def do(system: Container, title: str, *, fetches: bool = False) -> list[str]:
    """Write the files of a section, run its commands, and return what each printed."""
    for path, content in files(title).items():
        system.check("mkdir", "-p", path.rpartition("/")[0])
        system.write(path, content)
    return [
        system.check("env", "--chdir", CLONE, *command, timeout=INSTALL_SECONDS, fetches=fetches)
        for command in commands(title)
    ]


# -- bridges


@contextmanager
def bridge_made(system: Container, way: str) -> Iterator[Container]:
    """Make the bridge in this *way* on a system with a card, and take both away again."""
    if PACKAGES[way]:
        script = FETCH.format(packages=PACKAGES[way])
        system.check("sh", "-c", script, timeout=FETCH_SECONDS, fetches=True)
    system.check("ip", "link", "add", CARD, "type", "veth", "peer", "name", "far")
    system.check("ip", "link", "set", "far", "up")
    try:
        system.check(*BEFORE.get(way, ("true",)))
        do(system, way)
        yield system
    finally:
        system.run("bash", "-c", AFTER[way])
        system.run("rm", "-f", *files(way))
        system.check("ip", "link", "delete", CARD)


def link(system: Container, name: str) -> dict[str, Any]:
    """Return the interface *name* with its addresses, as ``ip`` shows it."""
    shown = system.run("ip", "-json", "-details", "address", "show", "dev", name).stdout
    found: dict[str, Any] = next(iter(json.loads(shown or "[]")), {})
    return found


def wait_for_address(system: Container, seconds: float = 20) -> dict[str, Any]:
    """Return the bridge when it is up, has the page's address, and the card as its port."""
    deadline = time.monotonic() + seconds
    while True:
        bridge, card = link(system, "br0"), link(system, CARD)
        addresses = [entry["local"] for entry in bridge.get("addr_info", ())]
        if "192.0.2.2" in addresses and bridge["operstate"] == "UP" and card.get("master") == "br0":
            return bridge
        assert time.monotonic() < deadline, (bridge, card)
        time.sleep(0.1)


@pytest.mark.parametrize("way", PACKAGES)
def test_a_bridge_is_made_as_the_page_says(bare_system: Container, way: str) -> None:
    """It has the card as its port and the host's address; STP is off, and so is waiting."""
    with bridge_made(bare_system, way) as system:
        bridge = wait_for_address(system)
        card = link(system, CARD)
        own = system.check("cat", "/sys/class/net/br0/addr_assign_type")
        route = json.loads(system.check("ip", "-json", "route", "show", "default"))

    assert 0 == bridge["linkinfo"]["info_data"]["stp_state"]
    assert "forwarding" == card["linkinfo"]["info_slave_data"]["state"]
    assert [] == [entry for entry in card["addr_info"] if entry["family"] == "inet"]
    assert ("192.0.2.1", "br0") == (route[0]["gateway"], route[0]["dev"])
    # NET_ADDR_SET of linux/netdevice.h: the bridge has an address of its own.
    assert (way == "systemd-networkd") == (own == "3")


# -- an installation, from its first day to its last


@pytest.fixture(scope="module")
def host(bare_system: Container) -> Container:
    """Return a host with the page's bridges, the group kvm and alice, and bpferry installed."""
    system = bare_system
    system.check("sh", "-c", AS_ON_A_MACHINE)
    for bridge in ("br0", "br1"):
        system.check("ip", "link", "add", bridge, "type", "bridge")
        system.check("ip", "link", "set", bridge, "up")
    # Debian's udev makes the group, and is not installed here.
    system.check("groupadd", "--force", "--system", "kvm")
    system.check("useradd", "alice")
    do(system, "Upgrade", fetches=True)
    do(system, "Users")
    return system


def test_a_user_gets_both_groups(host: Container) -> None:
    """As the page says."""
    assert {"bpferry", "kvm"} <= set(host.check("id", "-nG", "alice").split())


def test_the_page_s_policy_is_valid_and_in_words(host: Container) -> None:
    """It has no mistake, and no warning."""
    [said] = do(host, "The policy")

    assert "is a valid policy" in said
    assert "warning" not in said
    assert "alice" in said


def ask_tap(system: Container, *words: str) -> dict[str, Any]:
    """Let alice ask the helper for taps; return its answer."""
    script = f"{CLONE}/tests/systemd/ask_tap.py"
    answer: dict[str, Any] = json.loads(system.check(PYTHON, script, *words, user="alice"))
    return answer


def test_an_upgrade_and_the_removal_leave_a_tap_to_its_user(host: Container) -> None:
    """It is in all lists; the new installation leaves it, and the removal waits for it."""
    do(host, "The policy")
    host.write("/etc/bpferry/policy.toml", '[users.alice]\nbridges = ["br0"]\n')
    tap = ask_tap(host, "create", "br0", "1")["interface"]
    do(host, "Upgrade", fetches=True)
    status, links, journal, _ = do(host, "Who has what, and the log")
    removal = host.run("env", "--chdir", CLONE, *commands("Removal")[0])
    host.check("ip", "link", "delete", "dev", tap)
    do(host, "Removal")

    assert all(tap in shown for shown in (status, links, journal))
    assert (1, True) == (removal.returncode, tap in removal.stderr)
    assert 1 == host.run("test", "-e", "/usr/local/bin/bpferry").returncode
