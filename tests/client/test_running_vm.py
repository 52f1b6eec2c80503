# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry list, status, stop, pause, resume and reset of a VM that really runs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bpferry.cli import status
from bpferry.cli.main import main
from bpferry.machine.control.running import connect, find_running
from bpferry.machine.guest_addresses import Address, Found
from tests.client.running import BASE, DISK, runs, start, state, type_in
from tests.client.support import PATIENCE_S, is_gone, wait_until

pytestmark = pytest.mark.qemu

USER_CARD = '[[cards]]\ntype = "user"\n'


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))


def output_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return what `bpferry` with *words* prints; its status has to be 0."""
    assert main(words) == 0
    return capsys.readouterr().out


def test_a_vm_is_listed_as_long_as_it_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its state, size and processes; JSON has the same."""
    with start(tmp_path, BASE + DISK) as run:
        runs(run)
        rows = output_of(capsys, "list").splitlines()
        (told,) = json.loads(output_of(capsys, "list", "--json"))["vms"]
        assert rows[0].split() == ["NAME", "STATE", "UPTIME", "VCPUS", "MEMORY", "CARDS", "PID"]
        assert rows[1].split()[:2] == ["t", "running"]
        assert rows[1].split()[-1] == str(run.process.pid)
        assert told["memory"] == 32 << 20
        assert told["qemu_pid"] == run.qemu()
        assert told["file"] == str(tmp_path / "vm.toml")
        type_in(run, b"q")
        assert run.status() == 0
    assert output_of(capsys, "list") == "none of your VMs is running\n"
    assert json.loads(output_of(capsys, "list", "--json")) == {"vms": []}


def test_status_shows_cards_disks_and_warnings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was planned for a card is there with its reason."""
    with start(tmp_path, BASE + DISK + USER_CARD) as run:
        runs(run)
        text = output_of(capsys, "status", "t")
        told = json.loads(output_of(capsys, "status", "t", "--json"))
        run.signal(signal.SIGKILL)
    assert text.startswith("t: running, for ")
    assert "planned: none (it has one queue)" in text
    assert f"disk: {tmp_path}/disk.img" in text
    assert "  console   bpferry console t\n" in text
    assert ([], ["serial0"]) == (told["addresses"], told["consoles"])
    (card,) = told["cards"]
    assert (card["id"], card["type"], card["steering"]) == ("net0", "user", "none")
    assert told["disks"] == [
        {
            "target": "vda",
            "device": "disk",
            "file": str(tmp_path / "disk.img"),
            "plugged": False,
        }
    ]


def test_addresses_in_a_status_are_below_each_other() -> None:
    """Also if the name of one is longer than the column is wide."""
    told = {
        "name": "t", "state": "running", "uptime_s": 1, "file": "/vm.toml", "pid": 1, "qemu_pid": 2,
        "endpoints": [
            {"name": "qmp", "kind": "unix", "path": "/q.sock"},
            {"name": "guest agent", "kind": "unix", "path": "/a.sock"},
        ],
    }  # fmt: skip
    assert list(status._lines(told, Found()))[-2:] == [
        "  qmp         /q.sock",
        "  guest agent /a.sock",
    ]


def test_a_status_says_how_to_reach_the_guest() -> None:
    """Its addresses below its cards, by who told of them, and the commands to copy."""
    card = {"type": "bridge", "mac": "m", "queues": 1, "steering": "none", "because": "one queue"}
    told = {
        "name": "t", "state": "running", "uptime_s": 1, "file": "/vm.toml", "pid": 1, "qemu_pid": 2,
        "cards": [{"id": "net0", **card}, {"id": "net1", **card}],
        "consoles": ["serial0", "serial1"],
        "endpoints": [],
    }  # fmt: skip
    found = Found([
        Address("net0", "192.0.2.1", "guest agent", reachable=True),
        Address("net0", "2001:db8::1", "guest agent", reachable=True),
        Address("net0", "192.0.2.9", "neighbour table", reachable=True),
        Address("net1", "10.0.2.15", "guest agent", reachable=False),
    ])  # fmt: skip
    shown = list(status._lines(told, found))

    assert [line for line in shown if "guest:" in line] == [
        "            guest:   192.0.2.1, 2001:db8::1 (guest agent)",
        "            guest:   192.0.2.9 (neighbour table)",
        "            guest:   10.0.2.15 (guest agent; inside user networking)",
    ]
    assert shown[-3:] == [
        "  console   bpferry console --serial serial0 t",
        "  console   bpferry console --serial serial1 t",
        "  ssh       bpferry ssh t, by 192.0.2.1 (guest agent)",
    ]


def test_stop_powers_down_and_waits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """This guest ignores its power button, so it ends when its time is over."""
    with start(tmp_path, BASE + DISK) as run:
        runs(run)
        qemu = run.qemu()
        began = time.monotonic()
        assert output_of(capsys, "stop", "--timeout", "1", "t") == "'t' has ended\n"
        assert time.monotonic() - began >= 1
        assert run.status() == 0
        assert is_gone(qemu)
        assert "asked the guest to power down" in run.err()
    assert not list((tmp_path / "bpferry/t").glob("*.sock"))


def test_stop_by_force_is_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The guest is not asked; QEMU ends by itself, so that its disks are closed."""
    with start(tmp_path, BASE + DISK) as run:
        runs(run)
        told = json.loads(output_of(capsys, "stop", "--force", "--json", "t"))
        assert told == {"ended": ["t"]}
        assert run.status() == 0
        assert "asked the guest" not in run.err()


def test_a_vm_that_does_not_run_can_be_started_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint is a command to copy, if there is a description of that name."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert main(("status", "web")) == 1
    assert "start one: bpferry run FILE\n" in capsys.readouterr().err
    (tmp_path / "bpferry" / "vms").mkdir(parents=True)
    (tmp_path / "bpferry" / "vms" / "web.xml").touch()
    assert main(("status", "web")) == 1
    assert "start it: bpferry run web\n" in capsys.readouterr().err


def test_stop_goes_on_after_a_name_that_does_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is an error all the same."""
    with start(tmp_path, BASE + DISK) as run:
        runs(run)
        assert main(("stop", "--force", "nosuch", "t")) == 1
        captured = capsys.readouterr()
        assert captured.out == "'t' has ended\n"
        assert "error: no VM 'nosuch' of yours is running" in captured.err
        assert run.status() == 0


def test_pause_resume_and_reset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A paused guest answers nothing; one that was reset greets again."""
    with start(tmp_path, BASE + DISK) as run:
        runs(run)
        assert output_of(capsys, "pause", "t") == "'t' is paused\n"
        assert state() == "paused"
        type_in(run, b"x")
        time.sleep(0.3)
        assert not run.out().endswith("x")
        assert output_of(capsys, "resume", "t") == "'t' continues\n"
        assert run.says("x")
        assert output_of(capsys, "reset", "t") == "'t' restarts\n"
        assert wait_until(lambda: run.out().count("hello from") == 2)
        assert state() == "running"
        type_in(run, b"q")
        assert run.status() == 0


def test_a_stopped_supervisor_is_listed_as_not_answering(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list waits a moment for it and no longer."""
    monkeypatch.setattr("bpferry.machine.control.running.LIST_SECONDS", 0.5)
    with start(tmp_path, BASE + DISK) as run:
        runs(run)
        run.signal(signal.SIGSTOP)
        assert main(("list",)) == 0
        captured = capsys.readouterr()
        run.signal(signal.SIGCONT)
        assert captured.out.splitlines()[1] == "t     not answering"
        assert "'t' did not answer within 0.5 s" in captured.err


def test_a_vm_whose_runtime_folder_was_deleted_is_named_with_its_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs on, and ends on a signal."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    with start(tmp_path, BASE + DISK) as run:
        runs(run)
        shutil.rmtree(tmp_path / "run")
        assert main(("stop", "t")) == 1
        told = capsys.readouterr().err
        assert "'t' cannot be asked: its control socket is gone" in told
        assert f"kill {run.process.pid}" in told
        type_in(run, b"q")
        assert run.status() == 0


def test_two_commands_at_once(tmp_path: Path) -> None:
    """Both stop it; both are told that it has ended."""
    command = [sys.executable, "-m", "bpferry", "stop", "--force", "t"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with start(tmp_path, BASE + DISK) as run:
        runs(run)
        both = [
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
            )
            for _ in range(2)
        ]
        said = [process.communicate(timeout=PATIENCE_S)[0].decode() for process in both]
        assert run.status() == 0
    for text in said:
        assert "'t' has ended" in text or "no VM 't' of yours is running" in text
    assert any("'t' has ended" in text for text in said)


def test_a_killed_supervisor_takes_its_qemu_along(tmp_path: Path) -> None:
    """There is nobody left to ask, and nothing left to stop."""
    with start(tmp_path, BASE + DISK) as run:
        runs(run)
        qemu = run.qemu()
        run.signal(signal.SIGKILL)
        assert wait_until(lambda: is_gone(qemu))
        assert find_running() == []
    with start(tmp_path, BASE + DISK) as again:
        runs(again)


def test_a_client_that_stays_does_not_keep_the_vm(tmp_path: Path) -> None:
    """Its connection ends with the VM."""
    with start(tmp_path, BASE + DISK) as run:
        runs(run)
        with connect("t") as control:
            type_in(run, b"q")
            assert control.wait_for_end(20)
        assert run.status() == 0
