# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry migrate between two hosts that are folders, with real QEMUs and a stand-in for ssh."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.migration.hosts import PATIENCE_S, Hosts, hosts
from tests.client.running import BASE
from tests.client.support import wait_until

pytestmark = pytest.mark.qemu

README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
FLAGS = re.MULTILINE | re.DOTALL

STREAM = '"type":"stream"'
LOADED = '"type":"loaded"'
RUN = '"type":"run"'
RUNS = '"type":"runs"'


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Hosts]:
    """Run a VM with a disk here."""
    with hosts(tmp_path) as found:
        yield found


def stays(both: Hosts) -> None:
    """Fail unless the guest goes on here, and nothing of it is there."""
    assert wait_until(lambda: both.state() == "running", PATIENCE_S), both.run.err()
    assert both.answers("still here")
    both.check_nothing_is_there()


def test_a_vm_goes_on_there_and_ends_here(both: Hosts) -> None:
    """Its guest does not start again: it answers, and does not greet."""
    done = both.migrate("--json")
    assert done.returncode == 0, done.stderr + both.log()
    told = json.loads(done.stdout)
    assert (told["name"], told["host"]) == ("t", "beta")
    assert told["downtime_ms"] >= 0
    assert both.run.status() == 0
    assert "'t' is now at 'beta'" in both.run.err()
    assert both.state() == ""
    assert both.state(there=True) == "running"
    how = both.command("console", "t", there=True)
    with subprocess.Popen(**how, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as console:
        assert console.stdin is not None
        assert console.stdout is not None
        console.stdin.write("still there\n")
        console.stdin.flush()
        assert console.stdout.readline().strip() == "still there"
        console.kill()
    assert both.ask("stop", "--force", "t", there=True).returncode == 0
    assert wait_until(lambda: not both.processes_there(), PATIENCE_S)
    assert both.left_there() == ["bpferry/t/migrated.toml"]


def test_session_of_the_readme(both: Hosts) -> None:
    """Each command prints what is there, but for the VM's name and its numbers."""
    [block] = re.findall(r"^<!-- bpferry migrate -->\n```text\n\$ (.*?)^```", README, FLAGS)
    asked = [part.partition("\n") for part in block.replace("web", "t").split("\n$ ")]
    (move, _, moved), (_, _, here), (_, _, there) = asked
    done = both.migrate()
    assert done.returncode == 0, done.stderr + both.log()
    told = [done.stdout, both.ask("list").stdout, both.ask("list", there=True).stdout]

    assert "bpferry migrate t ssh://beta" == move
    assert list(map(plain, (moved, here, there))) == list(map(plain, told))


def plain(text: str) -> list[list[str]]:
    """Return the words of each line of *text*, without numbers."""
    varies = re.compile(r"process \d+|\d+ (?:m?s|[MG]iB)|\b\d+\b")
    return [varies.sub("~", line).split() for line in text.splitlines()]


def test_a_paused_vm_is_paused_there(both: Hosts) -> None:
    """Until its user lets it continue."""
    assert both.ask("pause", "t").returncode == 0
    done = both.migrate()
    assert done.returncode == 0, done.stderr + both.log()
    assert done.stdout.startswith("'t' is paused at 'beta'")
    assert both.state(there=True) == "paused"
    assert both.ask("resume", "t", there=True).returncode == 0
    assert both.state(there=True) == "running"


@pytest.mark.parametrize(
    ("status", "hint"),
    [("127", "'bpferry' is not in the PATH of ssh's commands"), ("255", "ssh -p 2222 alice@beta")],
)
def test_an_ssh_that_fails_is_explained(both: Hosts, status: str, hint: str) -> None:
    """Its own words are on the terminal."""
    done = both.migrate(status=status)
    assert done.returncode == 1
    assert "it stays on this host" in done.stderr
    assert hint in done.stderr
    stays(both)


@pytest.mark.parametrize("message", ['"type":"offer"', '"type":"ready"', STREAM, LOADED])
def test_a_connection_that_breaks_leaves_the_vm_here(both: Hosts, message: str) -> None:
    """Wherever it breaks, up to the last moment, in which the guest has stopped already."""
    done = both.migrate(cut=message)
    assert done.returncode == 1
    assert "the connection to 'beta' ended before 't' was there" in done.stderr
    stays(both)


def test_if_nobody_knows_where_the_vm_runs_it_runs_once(both: Hosts) -> None:
    """The last word was lost on its way: the user is told to look, and decides."""
    done = both.migrate(cut=RUN)
    assert done.returncode == 1
    assert "it is not known whether it runs there; it is paused here" in done.stderr
    assert "bpferry resume t" in done.stderr
    both.check_nothing_is_there()
    assert both.state() == "paused"
    assert both.ask("resume", "t").returncode == 0
    stays(both)


def test_if_the_answer_is_lost_the_vm_runs_there(both: Hosts) -> None:
    """And stays paused here."""
    done = both.migrate(cut=RUNS)
    assert done.returncode == 1
    assert "it is not known whether it runs there; it is paused here" in done.stderr
    assert both.state(there=True) == "running"
    assert both.state() == "paused"
    assert both.ask("stop", "--force", "t").returncode == 0


def test_a_qemu_that_dies_there_leaves_the_vm_here(both: Hosts) -> None:
    """It was waiting for the rest of the guest's memory."""
    with both.migrating(STREAM) as moving:
        os.kill(both.qemu_there(), signal.SIGKILL)
        both.check_nothing_is_there()
        _, said = moving.communicate(timeout=PATIENCE_S)
    assert moving.returncode == 1
    assert "it stays on this host" in said
    stays(both)


def test_ctrl_c_leaves_the_vm_here(both: Hosts) -> None:
    """And says so."""
    with both.migrating(STREAM) as moving:
        assert both.state() == "being moved"
        moving.send_signal(signal.SIGINT)
        assert wait_until(lambda: both.state() == "running", PATIENCE_S)
        (both.there / "go").touch()
        _, said = moving.communicate(timeout=PATIENCE_S)
    assert moving.returncode == 130
    assert "cancelling: the VM stays here" in said
    stays(both)


def test_a_vm_that_is_stopped_there_before_it_has_arrived_stays_here(both: Hosts) -> None:
    """Its guest does not run there, so that nobody can power it down."""
    with both.migrating(STREAM) as moving:
        assert both.ask("resume", "t", there=True).returncode == 1
        assert both.ask("stop", "t", there=True).returncode == 0
        _, said = moving.communicate(timeout=PATIENCE_S)
    assert moving.returncode == 1
    assert "at 'beta': its QEMU was told to stop before the VM was there" in said
    stays(both)


def test_a_vm_that_moves_is_not_changed_meanwhile(both: Hosts) -> None:
    """Each refusal says why, and how to end it."""
    with both.migrating(STREAM) as moving:
        for words in (("pause", "t"), ("reset", "t"), ("detach-disk", "t", "vda")):
            refused = both.ask(*words)
            assert refused.returncode == 1
            assert "is being moved" in refused.stderr
        again = both.migrate()
        assert again.returncode == 1
        (both.there / "go").touch()
        moving.communicate(timeout=PATIENCE_S)
    assert moving.returncode == 0
    assert both.state(there=True) == "running"


def test_a_name_that_is_taken_there_is_refused(both: Hosts) -> None:
    """Nothing is made, and the other VM is not disturbed."""
    assert both.migrate().returncode == 0
    assert both.run.status() == 0
    (both.folder / "other.toml").write_text(BASE, encoding="utf-8")
    with subprocess.Popen(
        **both.command("run", str(both.folder / "other.toml")), stdin=subprocess.PIPE
    ) as other:
        try:
            assert wait_until(lambda: both.state() == "running", PATIENCE_S)
            refused = both.migrate()
            assert refused.returncode == 1
            assert "at 'beta': " in refused.stderr
            assert both.state(there=True) == "running"
            assert both.state() == "running"
        finally:
            other.kill()
