# SPDX-License-Identifier: LGPL-2.1-or-later
"""The limits of taps in both directions, on a kernel that has a policer."""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.vm.freight import CLONE
from tests.vm.host import IN_THE_HOST, Host

pytestmark = [*IN_THE_HOST]

POLICY: Final = "/etc/bpferry/policy.toml"
RULES: Final = """\
[users.alice]
bridges = ["br-free", "br-limited"]
[bridges.br-limited]
bandwidth = { outbound = "800 kbit/s" }
"""
LIMIT: Final = 100_000
BURST: Final = 131_072
"""Bytes per second, as ``inside/bandwidth.py`` asks for, and bytes."""

SLACK: Final = 1.1
"""For the frames that were on their way at the end."""


@pytest.fixture(scope="module")
def seen(host: Host) -> Iterator[dict[str, Any]]:
    """Yield what the script inside says, on two bridges of which policy limits one."""
    before = host.check("cat", POLICY)
    for bridge in ("br-free", "br-limited"):
        host.check("ip", "link", "add", bridge, "type", "bridge")
        host.check("ip", "link", "set", bridge, "up")
    host.write(POLICY, RULES)
    try:
        script = f"{CLONE}/tests/vm/inside/bandwidth.py"
        yield json.loads(host.check("python3", script, user="alice", timeout=180))
    finally:
        host.write(POLICY, before + "\n")
        for bridge in ("br-free", "br-limited"):
            host.check("ip", "link", "del", bridge)


@pytest.mark.parametrize(
    "flood",
    [
        "inbound, as asked for",
        "outbound, as asked for",
        "outbound, by policy",
        "a peak below the average",
    ],
)
def test_a_flood_is_held_to_its_limit(seen: dict[str, Any], flood: str) -> None:
    """The control is more than twice as fast; what the limit allows comes through."""
    control, control_seconds = seen["floods"]["the control"]
    count, seconds = seen["floods"][flood]

    assert control > 2 * (BURST + LIMIT * control_seconds)
    assert LIMIT * seconds / 2 < count < SLACK * (BURST + LIMIT * seconds)


def test_the_kernel_has_what_was_asked_for(seen: dict[str, Any]) -> None:
    """As tc of iproute2 reads it back."""
    said = seen["kernel"]

    assert (
        "tbf 1: root refcnt 2 rate 800Kbit burst 200000b peakrate 1600Kbit minburst 128Kb" in said
    )
    assert "matchall" in said
    assert "rate 800Kbit burst 200000b mtu 128Kb peakrate 1600Kbit action drop" in said


def test_more_than_policy_allows_is_refused_with_both_rates(seen: dict[str, Any]) -> None:
    """The caller sees how much there is to have."""
    assert "with outbound 800.008 kbit/s: policy allows 800 kbit/s" in seen["refused"]


def test_check_policy_finds_all_modules(host: Host) -> None:
    """This kernel has them, so that nothing is said of missing ones."""
    host.write("/tmp/limits.toml", RULES)
    said = host.check("bpferry-helper", "check-policy", "/tmp/limits.toml")

    assert "Taps on 'br-limited' carry at most 800 kbit/s from it." in said
    assert "its kernel has no" not in said
