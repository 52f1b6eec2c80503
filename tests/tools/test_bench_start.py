# SPDX-License-Identifier: LGPL-2.1-or-later
"""tools/bench start: what it prints. How quick a dry run is depends on the host."""

import json
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

BENCH: Final = Path(__file__).parents[2] / "tools" / "bench"
RUNS: Final = 3
TIMED: Final = {"cache", "probe", "bare", "process", "python", "many", "few"}
WANTED: Final = {"cache", "probe", "process", "cards"}


@pytest.fixture(scope="module")
def printed() -> dict[str, Any]:
    """Run the bench once, with few runs, for all tests here."""
    arguments = ["start", "--runs", str(RUNS), "--json"]
    done = subprocess.run([BENCH, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.privileged
@pytest.mark.qemu
def test_times(printed: dict[str, Any]) -> None:
    """Everything that is timed is there, as often as asked for and in order of size."""
    times = printed["times"]

    assert dict.fromkeys(TIMED, RUNS) == {key: row["count"] for key, row in times.items()}
    assert all(0 < row["p50_ms"] <= row["p99_ms"] for row in times.values())


@pytest.mark.privileged
@pytest.mark.qemu
def test_steps_are_real(printed: dict[str, Any]) -> None:
    """A probe takes far longer than the cache, a dry run longer than a Python that does nothing."""
    times = printed["times"]

    assert times["probe"]["p50_ms"] > 10 * times["cache"]["p50_ms"]
    assert times["process"]["p50_ms"] > 2 * times["python"]["p50_ms"]
    assert times["many"]["p50_ms"] > times["few"]["p50_ms"]


@pytest.mark.privileged
@pytest.mark.qemu
def test_wanted(printed: dict[str, Any]) -> None:
    """Each figure of which something is wanted says whether it is met."""
    wanted = printed["wanted"]

    met = {key: entry["value"] <= entry["at_most"] for key, entry in wanted.items()}
    assert set(wanted) == WANTED
    assert met == {key: entry["met"] for key, entry in wanted.items()}
    assert all(met.values()) == printed["met"]
