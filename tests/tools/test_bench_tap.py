# SPDX-License-Identifier: LGPL-2.1-or-later
"""tools/bench tap: what it prints and what it leaves. How quick a tap is depends on the host."""

import json
import re
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.census import wait_until
from tests.tools.test_bench import children, command_line

BENCH: Final = Path(__file__).parents[2] / "tools" / "bench"
RUNS: Final = 8
SOME_RUNS: Final = 2
TAPS: Final = 20
FEWER: Final = (1, 2)
"""A hundredth of TAPS, of which there is at least one, and a tenth."""

WANTED: Final = {"tap_to_rival", "cold", "cold_with", "more", "linear", "memory", "idle"}
HOSTS: Final = 2
FOR_EACH_HOST: Final = 3
"""What holds its namespaces, what starts the rival, and the helper."""

START_S: Final = 60.0


@pytest.fixture(scope="module")
def printed() -> dict[str, Any]:
    """Run the bench once, with few runs and taps, for all tests here that look at figures."""
    arguments = ["tap", "--runs", str(RUNS), "--taps", str(TAPS), "--json"]
    done = subprocess.run([BENCH, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def times_wanted() -> dict[str, int]:
    """Return everything that is timed, and how often."""
    wanted = dict.fromkeys(("tap", "rival", "no_pause"), RUNS)
    wanted |= dict.fromkeys(("cold", f"cold_with_{TAPS}"), SOME_RUNS)
    wanted |= dict.fromkeys((f"tap_foreign_{TAPS}", f"quota_foreign_{TAPS}"), SOME_RUNS)
    there = 0
    for count in (*FEWER, TAPS):
        kinds = ("tap_with", "none_with", "rival_with", "quota_with")
        wanted |= {f"{kind}_{count}": SOME_RUNS for kind in kinds}
        wanted[f"making_{count}"] = count - there
        there = count
    return wanted


@pytest.mark.privileged
@pytest.mark.qemu
def test_times(printed: dict[str, Any]) -> None:
    """Everything that is timed is there, as often as asked for and in order of size."""
    times = printed["times"]

    assert times_wanted() == {key: row["count"] for key, row in times.items()}
    assert all(0 < row["p50_ms"] <= row["p99_ms"] for row in times.values())


@pytest.mark.privileged
@pytest.mark.qemu
def test_a_cold_start_is_one(printed: dict[str, Any]) -> None:
    """The first request takes far longer than others: it starts the helper."""
    times = printed["times"]

    assert times["cold"]["p50_ms"] > 3 * times["tap"]["p50_ms"]


@pytest.mark.privileged
@pytest.mark.qemu
def test_memory(printed: dict[str, Any]) -> None:
    """The memory is that of a Python process, and its peak is no lower."""
    memory = printed["memory"]

    assert 5_000 < memory["now_kib"] <= memory["peak_kib"]


@pytest.mark.privileged
@pytest.mark.qemu
def test_idle(printed: dict[str, Any]) -> None:
    """Nothing is left of a helper that nobody asks."""
    assert printed["idle"] == {"now_kib": 0, "peak_kib": 0}


@pytest.mark.privileged
@pytest.mark.qemu
def test_wanted(printed: dict[str, Any]) -> None:
    """Each figure of which something is wanted says whether it is met."""
    wanted = printed["wanted"]

    met = {key: entry["value"] <= entry["at_most"] for key, entry in wanted.items()}
    assert set(wanted) == WANTED
    assert met == {key: entry["met"] for key, entry in wanted.items()}
    assert all(met.values()) == printed["met"]


@pytest.mark.privileged
@pytest.mark.qemu
def test_interrupted() -> None:
    """A signal at work ends the helpers and what holds their hosts, and removes their folders."""
    with subprocess.Popen([BENCH, "tap"], stderr=subprocess.PIPE, text=True) as bench:
        wait_until(lambda: len(folders_of(children(bench.pid))) == HOSTS, START_S)
        started = children(bench.pid)
        folders = folders_of(started)
        bench.send_signal(signal.SIGTERM)
        _, said = bench.communicate(timeout=START_S)

    assert (bench.returncode, said) == (130, "bench: interrupted\n")
    assert len(started) == HOSTS * FOR_EACH_HOST
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    assert not [folder for folder in folders if Path(folder).exists()]


@pytest.mark.privileged
@pytest.mark.parametrize("count", ["19", "1001", "many"])
def test_wrong_count_of_taps(count: str) -> None:
    """What is too few to compare, or more than policy can allow, is wrong usage."""
    argv = [str(BENCH), "tap", "--taps", count]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (2, "")
    assert "--taps" in done.stderr


def folders_of(pids: list[int]) -> set[str]:
    """Return the bench's folders that the helpers among *pids* are started from."""
    found: set[str] = set()
    for pid in pids:
        # Before it measures, the bench starts programs that end by themselves.
        with suppress(OSError):
            found.update(re.findall(r"/var/tmp/bpferry-bench-[^/\0]+", command_line(pid)))
    return found
