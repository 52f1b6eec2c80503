# SPDX-License-Identifier: LGPL-2.1-or-later
"""tools/bench path-guest: packets to real guests. How quick they are depends on the host."""

import json
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks.path_guest_figures import STEERED, Lane
from tests.support.marks import WITH_A_GUEST

BENCH: Final = Path(__file__).parents[2] / "tools" / "bench"

pytestmark = [*WITH_A_GUEST, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def printed() -> dict[str, Any]:
    """Run the bench once, with one round, for all tests here."""
    done = subprocess.run(
        [BENCH, "path-guest", "--runs", "1", "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_where_packets_arrive(printed: dict[str, Any]) -> None:
    """By eBPF and by QEMU all are where the guest's table says.

    The control: a guest that cannot ask has most of them elsewhere.
    """
    asked = {key: lane["as_asked_percent"] for key, lane in printed["lanes"].items()}

    assert (100, 100) == (asked["ebpf"], asked["user"])
    assert 0 < asked["kernel"] < 50


def test_every_part_is_measured(printed: dict[str, Any]) -> None:
    """The sender, QEMU's main loop and its processors work for each; vhost is not there."""
    lanes = printed["lanes"]
    parts = ("sender_us", "loop_us", "guest_us", "host_times", "whole_times")

    assert {Lane(steered).key for steered in STEERED} == set(lanes)
    assert all(lane[part] > 0 for lane in lanes.values() for part in parts)
    assert {0} == {lane["vhost_us"] for lane in lanes.values()}
    assert ["user"] == [key for key, lane in lanes.items() if lane["rate"] is None]


def test_wanted(printed: dict[str, Any]) -> None:
    """Each figure of which something is wanted says whether it is met."""
    wanted = printed["wanted"]

    met = {key: entry["value"] <= entry["at_most"] for key, entry in wanted.items()}
    assert {"astray", "ebpf_to_kernel", "ebpf_to_user"} == set(wanted)
    assert met == {key: entry["met"] for key, entry in wanted.items()}
    assert met["astray"]
