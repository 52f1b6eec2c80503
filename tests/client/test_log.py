# SPDX-License-Identifier: LGPL-2.1-or-later
"""What was said about a VM is kept, in bounds, and shown from where it was said last."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from bpferry.cli.main import main
from bpferry.errors import BpferryError, NameTaken
from bpferry.machine import log_file
from bpferry.machine.log_file import LogFile, keep_log
from tests.client.running import BASE, BROKEN, DISK, start, type_in
from tests.client.support import Record, script, wait_until


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the state folder of the VM 't', not made yet, on a host without a journal."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "state/bpferry/t"


@pytest.fixture
def log(state: Path, warnings: list[str]) -> Iterator[LogFile]:
    """Return its log."""
    assert not state.exists()
    log = LogFile("t", warnings.append)
    yield log
    log.close()


@pytest.fixture
def warnings() -> list[str]:
    """Return what the user is warned of."""
    return []


def texts(path: Path) -> list[str]:
    """Return the lines of a log without their times."""
    return [line.split(" ", 1)[1] for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.qemu
def test_run_leaves_a_log_of_what_was_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bpferry's and QEMU's words, and not the guest's; `bpferry log` shows them."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with start(tmp_path, BASE + DISK) as run:
        assert run.says("hello")
        type_in(run, b"q")
        assert run.status() == 0
    said = texts(tmp_path / "state/bpferry/t/log")

    assert said[0] == "'t' starts with TCG, as the description says"
    assert said[-2:] == ["the VM shuts down", "the VM has stopped"]
    assert not any("hello" in line for line in said)
    assert (tmp_path / "state/bpferry/t/log").stat().st_mode & 0o777 == 0o600
    assert main(["log", "t"]) == 0
    assert [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()] == said


@pytest.mark.qemu
def test_failed_start_is_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With QEMU's own words, for those who were not there."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with start(tmp_path, BASE + BROKEN) as run:
        assert run.status() == 1

    said = texts(tmp_path / "state/bpferry/t/log")
    assert any(line.startswith("qemu: ") and "'such'" in line for line in said)
    assert any(line.startswith("error: ") and "QEMU ended with" in line for line in said)


def test_log_has_bounds(
    log: LogFile, state: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A QEMU that writes without end fills two files, the last lines in the newer one."""
    monkeypatch.setattr(log_file, "MAX_BYTES", 1000)
    for number in range(500):
        log.write(f"line {number}")

    sizes = [path.stat().st_size for path in sorted(state.iterdir())]
    assert len(sizes) == 2
    assert max(sizes) <= 1000
    both = texts(state / "log.1") + texts(state / "log")
    assert both == [f"line {number}" for number in range(500 - len(both), 500)]
    assert not warnings


def test_a_line_longer_than_the_log_is_cut_and_keeps_what_was_said_before(
    log: LogFile, state: Path
) -> None:
    """Another host may have said it."""
    log.write("before")
    log.write("x" * (log_file.MAX_BYTES + 1))
    log.write("after")

    assert texts(state / "log") == ["before", "x" * log_file.MAX_LINE, "after"]


def test_a_log_does_nothing_to_a_terminal(log: LogFile, state: Path) -> None:
    """QEMU repeats what a guest or an image says."""
    log.write("qemu: \x1b[2J\x9b1m\u202e")

    assert texts(state / "log") == [r"qemu: \x1b[2J\x9b1m\u202e"]


@pytest.mark.privileged
def test_full_disk_is_told_once_and_does_not_end_the_vm(
    log: LogFile, state: Path, warnings: list[str]
) -> None:
    """When there is room again, the log says how many lines it lacks."""
    state.mkdir(parents=True)
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(state)]
    subprocess.run(mount, check=True)
    try:
        (state / "big").write_bytes(b"x" * 4096)
        for number in range(3):
            log.write(f"lost {number}")
        (state / "big").unlink()
        log.write("kept")
        log.close()
        said = texts(state / "log")
    finally:
        subprocess.run(["/bin/umount", str(state)], check=True)

    assert said == ["3 lines are missing here: they could not be written", "kept"]
    assert warnings == [f"cannot write the log '{state}/log': No space left on device"]


def test_what_is_no_file_in_place_of_the_log_is_not_waited_for(
    log: LogFile, state: Path, warnings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody may read a FIFO; if somebody does, it is not the log all the same."""
    state.mkdir(parents=True)
    os.mkfifo(state / "log")
    log.write("lost")
    reader = os.open(state / "log", os.O_RDONLY | os.O_NONBLOCK)
    log.write("lost")
    assert os.read(reader, 100) == b""
    os.close(reader)

    assert warnings == [f"cannot write the log '{state}/log': No such device or address"]
    assert main(["log", "t"]) == 1
    assert "nothing was said" in capsys.readouterr().err


@pytest.mark.privileged
def test_the_log_is_not_written_where_somebody_else_could_read_it(
    log: LogFile, state: Path, warnings: list[str]
) -> None:
    """As with XDG_STATE_HOME in a place like /tmp."""
    place = state.parent.parent
    state.mkdir(parents=True)
    place.chmod(0o1777)
    os.chown(state.parent, 61_234, 61_234)
    log.write("lost")

    assert list(state.iterdir()) == []
    assert "belongs to the user 61234" in warnings[0]


def test_log_that_cannot_be_made_is_told(log: LogFile, state: Path, warnings: list[str]) -> None:
    """Such as in a state folder that is a file."""
    state.parent.parent.mkdir()
    state.parent.write_text("")
    log.write("x")

    why = f"'{state.parent}' is not a directory"
    assert warnings == [f"cannot write the log '{state}/log': {why}"]


def test_error_that_ends_a_run_is_written(state: Path) -> None:
    """With its hint; but not that the name is taken, since the log is that of the other VM."""
    record = Record()
    with keep_log("t", record) as kept:
        kept.warn("careful", "do this")
    with pytest.raises(BpferryError), keep_log("t", record):
        raise BpferryError("broken", "mend it")
    with pytest.raises(NameTaken), keep_log("t", record):
        raise NameTaken("taken")

    assert texts(state / "log") == [
        "warning: careful (hint: do this)",
        "error: broken (hint: mend it)",
    ]


def test_under_systemd_there_is_the_journal_and_no_file(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Systemd says which stream is the journal's; another one is not."""
    found = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    with keep_log("t", Record()) as kept:
        kept.note("x")
    assert not state.exists()

    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    with keep_log("t", Record()) as kept:
        kept.note("x")
    assert texts(state / "log") == ["x"]


def test_log_as_json(log: LogFile, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One object, with where it is from."""
    log.write("one thing")

    assert main(["log", "t", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["source"] == str(state / "log")
    assert [line["text"] for line in found["lines"]] == ["one thing"]


def journalctl(state: Path, *entries: dict[str, object]) -> None:
    """Let journalctl have *entries*."""
    lines = "\n".join(map(json.dumps, entries))
    body = f"/bin/cat <<'X'\n{lines}\nX" if entries else "echo insufficient permissions >&2"
    Path(script(state.parents[2], body)).rename(state.parents[2] / "bin/journalctl")


@pytest.mark.parametrize(("when", "source"), [("9999999999000000", "journal"), ("1000000", "log")])
def test_what_was_said_last_is_shown(
    when: str, source: str, log: LogFile, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A VM may run in the foreground today and as a service tomorrow."""
    log.write("in the file")
    journalctl(state, {"__REALTIME_TIMESTAMP": when, "MESSAGE": list(b"\xffhi")})

    assert main(["log", "t", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert Path(found["source"]).name == source
    if source == "journal":
        assert found["lines"][0]["text"] == "\ufffdhi"


def test_closed_journal_is_told(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A host that keeps its journal in memory gives users no part of it."""
    journalctl(state)

    assert main(["log", "t"]) == 1
    said = capsys.readouterr().err
    assert "nothing was said about a VM 't'" in said
    assert "mkdir /var/log/journal" in said


def test_vm_that_never_ran_has_no_log(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint is how to start it: by its name, if there is a description of that name."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(state / "config"))
    assert main(["log", "t"]) == 1
    assert "hint: start it: bpferry run FILE\n" in capsys.readouterr().err
    (state / "config" / "bpferry" / "vms").mkdir(parents=True)
    (state / "config" / "bpferry" / "vms" / "t.toml").touch()
    assert main(["log", "t"]) == 1
    assert "hint: start it: bpferry start t, or bpferry run t\n" in capsys.readouterr().err


@pytest.mark.usefixtures("state")
def test_object_without_an_end_is_wrong_usage() -> None:
    """--json and --follow exclude each other."""
    assert main(["log", "t", "--json", "-f"]) == 2


def ends_with(path: Path, text: str) -> bool:
    """Say whether *text* is the end of a file."""
    return path.read_text(encoding="utf-8").endswith(text)


def test_log_is_followed_into_the_next_file(
    log: LogFile, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said from now on is shown, also after the file was replaced; Ctrl-C ends it."""
    monkeypatch.setattr(log_file, "MAX_BYTES", 200)
    log.write("before")
    seen = tmp_path / "seen"
    with seen.open("wb") as output:
        follower = subprocess.Popen(
            [sys.executable, "-m", "bpferry", "log", "-f", "t"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=output,
            stderr=subprocess.PIPE,
        )
        try:
            for number in range(20):
                assert wait_until(lambda: seen.stat().st_size > 0)
                log.write(f"line {number}")
                assert wait_until(partial(ends_with, seen, f"line {number}\n"))
            follower.send_signal(signal.SIGINT)
            assert follower.communicate(timeout=60)[1] == b""
            assert follower.returncode == 0
        finally:
            follower.kill()
            follower.wait()

    assert (state / "log.1").exists()
    assert texts(seen) == ["before", *(f"line {number}" for number in range(20))]
