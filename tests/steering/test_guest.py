# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real guest on a real tap: every single flow comes in on the queue that we predict."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from guest.flows import Flow, Queues, Route, make_flows
from steering_demo.rounds import PACKETS, find_mismatches

REPOSITORY = Path(__file__).resolve().parents[2]
FLOWS = 400
ROUTES = [Route("10.0.0.1", "10.0.0.2"), Route("fd00::1", "fd00::2")]


def _demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    trees = ("tools", "client", "helper", "shared")
    path = ":".join(str(REPOSITORY / tree) for tree in trees)
    return subprocess.run(
        [sys.executable, "-B", "-m", "steering_demo", *arguments],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )


@pytest.mark.privileged
@pytest.mark.kernel
@pytest.mark.qemu
@pytest.mark.guest
@pytest.mark.slow
def test_every_flow_comes_in_on_its_predicted_queue() -> None:
    """Of 400 flows, before and after the guest changes its table, not one comes in elsewhere."""
    done = _demo("--json", "--flows", str(FLOWS))

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["steering"] == "ebpf"
    assert [mismatch for played in result["rounds"] for mismatch in played["mismatches"]] == []
    assert [sum(played["counted"]) for played in result["rounds"]] == [FLOWS, FLOWS]
    assert all(played["program_runs"] >= FLOWS * PACKETS for played in result["rounds"])
    even, changed = (played["counted"] for played in result["rounds"])
    assert all(even)
    assert [changed[1], changed[2]] == [0, 0]
    assert not list(Path("/run").glob("bpferry-demo-*"))


def _prediction() -> dict[Flow, int]:
    return {flow: number % 4 for number, flow in enumerate(make_flows(8, ROUTES))}


def test_a_flow_on_another_queue_is_a_mismatch() -> None:
    """One packet of one flow that comes in elsewhere is told, with that flow's name."""
    predicted = _prediction()
    seen: dict[Flow, Queues] = {flow: {queue: PACKETS} for flow, queue in predicted.items()}
    stray = next(iter(predicted))
    seen[stray] = {predicted[stray]: PACKETS - 1, 3: 1}

    (mismatch,) = find_mismatches(predicted, seen)

    assert str(stray.source_port) in mismatch


def test_a_flow_that_never_came_in_is_a_mismatch() -> None:
    """A flow that the guest has not seen is no success."""
    predicted = _prediction()
    seen: dict[Flow, Queues] = {
        flow: {queue: PACKETS} for flow, queue in list(predicted.items())[1:]
    }

    assert len(find_mismatches(predicted, seen)) == 1
