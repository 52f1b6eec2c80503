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

SEEN: Final = ("cat", "/proc/sys/net/bridge/bridge-nf-call-iptables")

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

FIREWALLS: Final = {"nft": NFTABLES, "iptables": DOCKER, "sysctl": DOCKER}
"""For each command of the page, the firewall that it is for."""


def commands() -> dict[str, list[str]]:
    """Return the section's commands by their first word, without sudo."""
    text = PAGE.split("\n## The firewall\n")[1].split("\n## ")[0]
    console = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line.removeprefix("sudo ")) for line in console]
    return {line[0]: line for line in lines}


@pytest.fixture
def helper() -> Iterator[TapProcess]:
    """Yield a helper with the bridge br0, on a host whose firewall sees what bridges forward."""
    for program in ("nft", "iptables", "sysctl"):
        requires.program(program)
    with running_tap_helper(OPEN_POLICY) as helper:
        requires.something(
            helper.run("sh", "-c", "ls -d /proc/sys/net/bridge || :"), "br_netfilter"
        )
        helper.run("sysctl", "net.bridge.bridge-nf-call-iptables=1")
        yield helper


def passes(helper: TapProcess) -> bool:
    """Say whether IPv4 gets from one guest to another."""
    with tap(helper, "br0", SENDER) as sender, tap(helper, "br0", RECEIVER) as receiver:
        return arrives(sender[0].borrow(), receiver, f.ipv4(SENDER, "192.0.2.10"))


@pytest.mark.parametrize("way", FIREWALLS)
def test_guests_reach_each_other_again(helper: TapProcess, way: str) -> None:
    """With the firewall they do not: the control; with the page's command they do."""
    before = passes(helper)
    for line in FIREWALLS[way].splitlines():
        helper.run(*line.split())
    during = passes(helper)
    shown = helper.run(*SEEN)
    helper.run(*commands()[way])
    after = passes(helper)

    assert (True, False, True) == (before, during, after)
    assert "1\n" == shown


def test_the_page_says_how_to_see_it() -> None:
    """With the command that the test above runs."""
    assert list(SEEN) == commands()["cat"]
    assert {*FIREWALLS, "cat"} == set(commands())
