# SPDX-License-Identifier: LGPL-2.1-or-later
"""tools/bench life: what it prints. How quick a start is depends on the host."""

import json
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

BENCH: Final = Path(__file__).parents[2] / "tools" / "bench"
RUNS: Final = 2
WANTED: Final = {"run", "steered", "list", "request", "resident", "wake_ups"}


@pytest.fixture(scope="module")
def printed() -> dict[str, Any]:
    """Run the bench once, with few runs, for all tests here."""
    arguments = ["life", "--runs", str(RUNS), "--json"]
    done = subprocess.run([BENCH, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.privileged
@pytest.mark.kernel
@pytest.mark.qemu
@pytest.mark.slow
def test_a_start_takes_longer_with_its_supervisor_than_without(printed: dict[str, Any]) -> None:
    """A list takes longer than a Python that does nothing, and a request is no process."""
    times = printed["times"]

    assert {RUNS} == {row["count"] for row in times.values()}
    assert times["run"]["p50_ms"] > times["bare"]["p50_ms"] > 0
    assert times["steered"]["p50_ms"] > times["steered_bare"]["p50_ms"] > 0
    assert times["listing"]["p50_ms"] > times["python"]["p50_ms"] > times["request"]["p50_ms"]


@pytest.mark.privileged
@pytest.mark.kernel
@pytest.mark.qemu
@pytest.mark.slow
def test_what_is_wanted_says_whether_it_is_met(printed: dict[str, Any]) -> None:
    """An idle supervisor does not wake up, however busy the host is."""
    wanted = printed["wanted"]

    assert set(wanted) - {"of_virsh"} == WANTED
    met = {key: entry["value"] <= entry["at_most"] for key, entry in wanted.items()}
    assert met == {key: entry["met"] for key, entry in wanted.items()}
    assert met["wake_ups"]
