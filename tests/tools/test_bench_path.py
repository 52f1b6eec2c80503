# SPDX-License-Identifier: LGPL-2.1-or-later
"""tools/bench path: packets through real taps. How quick they are depends on the host."""

import json
import signal
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.census import wait_until
from tests.tools.test_bench import children

BENCH: Final = Path(__file__).parents[2] / "tools" / "bench"
RUNS: Final = 2
LANES: Final = {
    f"ipv{family}_{steered}_{queues}"
    for family in (4, 6)
    for steered in ("ebpf", "kernel", "user")
    for queues in (1, 2, 4, 8)
}
START_S: Final = 120.0

pytestmark = [pytest.mark.privileged, pytest.mark.kernel, pytest.mark.qemu]


@pytest.fixture(scope="module")
def printed() -> dict[str, Any]:
    """Run the bench once, with few rounds, for all tests here that look at figures."""
    arguments = ["path", "--runs", str(RUNS), "--json"]
    done = subprocess.run([BENCH, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_every_lane_is_measured(printed: dict[str, Any]) -> None:
    """With both families, each number of queues, and whoever steers."""
    lanes = printed["lanes"]

    assert set(lanes) == LANES
    assert {RUNS} == {lane["rounds"] for lane in lanes.values()}
    assert all(lane["sender_ns"] > 0 and lane["readers_ns"] > 0 for lane in lanes.values())


def test_where_packets_arrive(printed: dict[str, Any]) -> None:
    """With the program, and with the stand-in for QEMU, all are where the guest's table says.

    The control: the kernel's own steering knows no table, so most are elsewhere.
    """
    asked = {key: lane["as_asked_percent"] for key, lane in printed["lanes"].items()}
    told = {key: value for key, value in asked.items() if "kernel" not in key}
    own = [asked[f"ipv{family}_kernel_{queues}"] for family in (4, 6) for queues in (4, 8)]

    assert dict.fromkeys(told, 100) == told
    assert max(own) < 50


def test_wanted(printed: dict[str, Any]) -> None:
    """Each figure of which something is wanted says whether it is met."""
    wanted = printed["wanted"]

    met = {key: entry["value"] <= entry["at_most"] for key, entry in wanted.items()}
    assert set(wanted) == {"astray", "ebpf_to_kernel", "ebpf_to_user"}
    assert met == {key: entry["met"] for key, entry in wanted.items()}


def test_interrupted() -> None:
    """A signal at work ends all that was started; the namespace goes, and all taps with it."""
    with subprocess.Popen([BENCH, "path"], stderr=subprocess.PIPE, text=True) as bench:
        # One process for each lane, and the one that holds the namespace.
        wait_until(lambda: len(children(bench.pid)) == len(LANES) + 1, START_S)
        started = children(bench.pid)
        bench.send_signal(signal.SIGTERM)
        _, said = bench.communicate(timeout=START_S)

    assert (bench.returncode, said) == (130, "bench: interrupted\n")
    assert len(started) == len(LANES) + 1
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
