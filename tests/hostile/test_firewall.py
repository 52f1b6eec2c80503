# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/administration.md, "The firewall": a host that drops what it forwards, and each way out."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests import requires
from tests.hostile import frames as f
from tests.hostile.test_layer_two import tap
from tests.hostile.test_layer_two_rules import arrives
from tests.support.tap_process import OPEN_POLICY, TapProcess, running_tap_helper

pytestmark = pytest.mark.privileged

PAGE: Final = (Path(__file__).parents[2] / "docs/administration.md").read_text(encoding="utf-8")

SENDER: Final = "52:54:00:00:00:01"
RECEIVER: Final = "52:54:00:00:00:02"

NFTABLES: Final = """\
nft add table inet filter
nft add chain inet filter forward { type filter hook forward priority filter ; policy drop ; }
"""

DOCKER: Final = """\
iptables -P FORWARD DROP
iptables -N DOCKER-USER
iptables -A DOCKER-USER -j RETURN
iptables -A FORWARD -j DOCKER-USER
"""
"""What docker leaves there that matters here."""

DOCKER6: Final = DOCKER.replace("iptables", "ip6tables")

OPEN_DOCKER6: Final = "ip6tables -I DOCKER-USER -i br0 -o br0 -j ACCEPT"


def commands(program: str) -> list[str]:
    """Return the section's commands with *program*, without sudo."""
    text = PAGE.split("\n## The firewall\n")[1].split("\n## ")[0]
    console = "\n".join(re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    lines = [line.removeprefix("sudo ") for line in console.splitlines()]
    return [line for line in lines if line.startswith(f"{program} ")]


@pytest.fixture
def helper() -> Iterator[TapProcess]:
    """Yield a helper with the bridge br0, on a host whose firewall sees what bridges forward."""
    for program in ("nft", "iptables", "sysctl"):
        requires.program(program)
    with running_tap_helper(OPEN_POLICY) as helper:
        requires.something(
            helper.run("sh", "-c", "ls -d /proc/sys/net/bridge || :"), "br_netfilter"
        )
        for family in ("ip", "ip6"):
            helper.run("sysctl", f"net.bridge.bridge-nf-call-{family}tables=1")
        yield helper


def passes(helper: TapProcess) -> tuple[bool, bool]:
    """Say whether IPv4 and IPv6 get from one guest to another."""
    frames = (
        f.ipv4(SENDER, "192.0.2.10"),
        f.ipv6(SENDER, "2001:db8::10", f.UDP, f.udp(1, 1)),
    )
    with tap(helper, "br0", SENDER) as sender, tap(helper, "br0", RECEIVER) as receiver:
        v4, v6 = (arrives(sender[0].borrow(), receiver, frame) for frame in frames)
        return v4, v6


def run_all(helper: TapProcess, lines: list[str]) -> None:
    """Run commands on the host."""
    for line in lines:
        helper.run(*shlex.split(line))


@pytest.mark.parametrize(
    ("firewall", "way"),
    [
        (NFTABLES, commands("nft")),
        (NFTABLES, commands("sysctl")),
        (DOCKER + DOCKER6, [*commands("iptables"), OPEN_DOCKER6]),
    ],
    ids=["nft", "sysctl", "docker"],
)
def test_guests_reach_each_other_again(helper: TapProcess, firewall: str, way: list[str]) -> None:
    """With the firewall they do not: the control; with the page's command they do."""
    before = passes(helper)
    run_all(helper, firewall.splitlines())
    during = passes(helper)
    [see] = commands("cat")
    shown = helper.run(*see.split())
    run_all(helper, way)
    after = passes(helper)

    assert ((True, True), (False, False), (True, True)) == (before, during, after)
    assert "1\n" == shown


def test_ip6tables_takes_the_same_words() -> None:
    """As the page says."""
    [command] = commands("iptables")

    assert OPEN_DOCKER6 == command.replace("iptables", "ip6tables")
