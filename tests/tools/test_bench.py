# SPDX-License-Identifier: LGPL-2.1-or-later
"""tools/bench: what it prints and what it leaves. How quick the helper is depends on the host."""

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.support.census import wait_until

BENCH: Final = Path(__file__).parents[2] / "tools" / "bench"
RUNS: Final = 4
TIMED: Final = {"load", "c_load", "two", "c_two", "cold", "c_cold", "hello", "floor"}
WANTED: Final = {"load_over_c", "cold_over_c", "resident", "two_at_once"}
START_S: Final = 60.0


class Outcome(NamedTuple):
    """How one run of the bench ended, and the object that it printed."""

    status: int
    printed: dict[str, Any]


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    """Run the bench once, with few runs, for all tests here that look at figures."""
    arguments = ["handover", "--runs", str(RUNS), "--json", "--check"]
    done = subprocess.run([BENCH, *arguments], capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return Outcome(done.returncode, json.loads(done.stdout))


@pytest.mark.privileged
@pytest.mark.kernel
@pytest.mark.qemu
def test_times(outcome: Outcome) -> None:
    """Everything that is timed is there, as often as asked for and in order of size."""
    times = outcome.printed["times"]

    cold = dict.fromkeys(("cold", "c_cold"), RUNS // 4)
    ready = dict.fromkeys(("ready", "ready_floor"), max(1, RUNS // 8) * 8)
    assert dict.fromkeys(TIMED, RUNS) | cold | ready == {
        key: row["count"] for key, row in times.items()
    }
    assert all(0 < row["p50_ms"] <= row["p99_ms"] for row in times.values())


@pytest.mark.privileged
@pytest.mark.kernel
@pytest.mark.qemu
def test_load_is_real(outcome: Outcome) -> None:
    """A hand-over with a load takes far longer than one without, in the helper and in C."""
    times = outcome.printed["times"]

    assert times["load"]["p50_ms"] > 10 * times["hello"]["p50_ms"]
    assert times["c_load"]["p50_ms"] > 10 * times["floor"]["p50_ms"]


@pytest.mark.privileged
@pytest.mark.kernel
@pytest.mark.qemu
def test_memory(outcome: Outcome) -> None:
    """The memory is that of a Python process, and its peak is no lower."""
    memory = outcome.printed["memory"]

    assert 5_000 < memory["now_kib"] <= memory["peak_kib"]


@pytest.mark.privileged
@pytest.mark.kernel
@pytest.mark.qemu
def test_wanted(outcome: Outcome) -> None:
    """Each figure of which something is wanted says whether it is met."""
    wanted = outcome.printed["wanted"]

    met = {key: entry["value"] <= entry["at_most"] for key, entry in wanted.items()}
    assert set(wanted) == WANTED
    assert met == {key: entry["met"] for key, entry in wanted.items()}


@pytest.mark.privileged
@pytest.mark.kernel
@pytest.mark.qemu
def test_check_decides_the_status(outcome: Outcome) -> None:
    """The exit status of --check is the one that goes with what is printed."""
    all_met = all(entry["met"] for entry in outcome.printed["wanted"].values())

    assert (0 if all_met else 1, all_met) == (outcome.status, outcome.printed["met"])


@pytest.mark.privileged
@pytest.mark.kernel
@pytest.mark.qemu
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted(number: signal.Signals) -> None:
    """A signal at work ends the helper and the C programs, and removes their folder."""
    with subprocess.Popen([BENCH, "handover"], stderr=subprocess.PIPE, text=True) as bench:
        # The two C programs, and the helper.
        wait_until(lambda: len(children(bench.pid)) == 3, START_S)
        started = children(bench.pid)
        folder = re.search(r"/var/tmp/bpferry-bench-[^/\0]+", command_line(started[0]))
        bench.send_signal(number)
        _, said = bench.communicate(timeout=START_S)

    assert folder is not None
    assert (bench.returncode, said) == (130, "bench: interrupted\n")
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    assert not Path(folder[0]).exists()


def test_wrong_usage() -> None:
    """Without a word of what to measure, it says how to call it and does nothing."""
    done = subprocess.run([BENCH], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: tools/bench all|fairness|handover")


def test_help() -> None:
    """Help names every option, and needs neither root nor anything installed."""
    done = subprocess.run([BENCH, "--help"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert {"--runs", "--taps", "--picture", "--json", "--check"} == set(
        re.findall(r"^  (--\w+)", done.stdout, re.MULTILINE)
    )


def children(pid: int) -> list[int]:
    """Return the processes that *pid* has started and that are still there."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in found.split()]


def command_line(pid: int) -> str:
    """Return the command line of *pid* with its NULs."""
    return Path(f"/proc/{pid}/cmdline").read_text()
