# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry start, restart, enable, disable: what systemd is asked, and what it answers.

A systemctl of our own plays systemd here; tests/systemd has the real one.
"""

import json
import os
from pathlib import Path

import pytest

from bpferry.cli.main import main
from bpferry.machine import user_manager
from tests.client.hot_plug.vm import running
from tests.client.support import script

UNIT = "bpferry@web.service"

SYSTEMCTL = """
echo "$@" >> {folder}/asked
case "$*" in
*show*) n=$(cat {folder}/n 2>/dev/null || echo 0); echo $((n + 1)) > {folder}/n
    f={folder}/state.$n; [ -e $f ] || f=$(ls {folder}/state.* | tail -n 1); cat $f;;
*) [ ! -e {folder}/refusal ] || {{ cat {folder}/refusal >&2; exit 1; }};;
esac
"""

INACTIVE = "LoadState=loaded\nActiveState=inactive\nSubState=dead\nInvocationID=\nStatusText=\n"
STARTING = (
    "LoadState=loaded\nActiveState=activating\nSubState=start\nInvocationID=a\n"
    "StatusText=QEMU starts\n"
)
ACTIVE = "LoadState=loaded\nActiveState=active\nSubState=running\nInvocationID=a\n"
AGAIN = (
    "LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nInvocationID=a\n"
    "ExecMainStatus=4\n"
)
FAILED = "LoadState=loaded\nActiveState=failed\nSubState=failed\nInvocationID=a\nExecMainStatus=1\n"
ENABLED = f"{INACTIVE}UnitFileState=enabled\n"
ABSENT = "LoadState=not-found\nActiveState=inactive\n"


class Host:
    """A host with a systemd that answers what it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def answers(self, *states: str) -> None:
        """Let systemd describe the unit so, one time after the other; the last one stays."""
        for number, state in enumerate(states):
            (self.folder / f"state.{number}").write_text(state, encoding="utf-8")

    def refuses(self, words: str) -> None:
        """Let systemd refuse everything else, with *words*."""
        (self.folder / "refusal").write_text(words, encoding="utf-8")

    def asked(self) -> list[str]:
        """Return what systemd was asked, except how things are."""
        lines = (self.folder / "asked").read_text(encoding="utf-8").splitlines()
        return [line.removeprefix("--user ") for line in lines if " show " not in line]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Give the user a VM 'web', and a systemd that lets them stay without a session."""
    vms = tmp_path / "config/bpferry/vms"
    vms.mkdir(parents=True)
    (vms / "web.toml").write_text('name = "web"\nmemory = "1 GiB"\n', encoding="utf-8")
    (tmp_path / "bin").mkdir()
    path = Path(script(tmp_path, SYSTEMCTL.format(folder=tmp_path)))
    path.rename(tmp_path / "bin/systemctl")
    said = "echo bpferry: error: no bridge\necho bpferry: hint: make one"
    Path(script(tmp_path, said)).rename(tmp_path / "bin/journalctl")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(user_manager, "has_linger", lambda: True)
    monkeypatch.setattr(user_manager, "POLL_SECONDS", 0.01)
    return Host(tmp_path)


def test_start_returns_when_the_guest_runs(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """Systemd is asked once to start it, and how it is until it is active."""
    host.answers(INACTIVE, STARTING, STARTING, ACTIVE)

    assert main(["start", "web"]) == 0
    assert host.asked() == [f"--no-block start {UNIT}"]
    assert "'web' runs\n" == capsys.readouterr().out


def test_vm_that_runs_is_not_started_again(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said, and is no error."""
    host.answers(ACTIVE)

    assert main(["start", "web", "--json"]) == 0
    assert not host.asked()
    assert json.loads(capsys.readouterr().out) == {
        "name": "web",
        "unit": UNIT,
        "running": True,
        "enabled": False,
        "lingers": True,
    }


@pytest.mark.parametrize(("state", "status"), [(AGAIN, 4), (FAILED, 1)])
def test_start_that_fails_tells_why_and_ends_like_the_run(
    state: str, status: int, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cause is that of `bpferry run`, from the journal; systemd does not try again."""
    host.answers(INACTIVE, STARTING, state)

    assert main(["start", "web"]) == status
    said = capsys.readouterr().err
    assert "error: 'web' did not start: no bridge\n" in said
    assert "hint: make one; all that it said: bpferry log web\n" in said
    assert host.asked()[-1] == f"stop {UNIT}"


def test_guest_that_ends_at_once_is_told(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """A start that worked and a VM that does not run are not the same."""
    host.answers(INACTIVE, INACTIVE.replace("ID=", "ID=b") + "ExecMainStatus=0\n")

    assert main(["start", "web"]) == 1
    assert "'web' started and has ended already" in capsys.readouterr().err


def test_what_the_run_has_warned_of_is_said(
    host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody saw it: what `bpferry run` says under systemd goes to the journal."""
    (tmp_path / "config/bpferry/vms/t.toml").write_text('name = "t"\n', encoding="utf-8")
    first, second, third = (ACTIVE.replace("ID=a", f"ID={run}") for run in "abc")
    host.answers(first, second, second, third)
    with running(tmp_path, 'current-memory = "1 GiB"\n', disk=False):
        assert main(["restart", "t"]) == 0
        said = capsys.readouterr().err
        assert main(["restart", "t", "--json"]) == 0
        [warning] = json.loads(capsys.readouterr().out)["warnings"]

    assert "current-memory" in warning
    assert f"bpferry: warning: {warning}\n" == said


def test_unit_that_failed_too_often_may_be_started_again(host: Host) -> None:
    """Whoever asks by hand has mended the reason."""
    host.answers(FAILED, ACTIVE.replace("ID=a", "ID=b"))

    assert main(["start", "web"]) == 0
    assert host.asked() == [f"reset-failed {UNIT}", f"--no-block start {UNIT}"]


def test_restart_waits_for_the_new_run(host: Host) -> None:
    """The VM that still runs is not taken for the one that is to be started."""
    host.answers(ACTIVE, ACTIVE, STARTING.replace("ID=a", "ID=b"), ACTIVE.replace("ID=a", "ID=b"))

    assert main(["restart", "web"]) == 0
    assert host.asked() == [f"--no-block restart {UNIT}"]


def test_unit_that_systemd_has_not_read_yet_is_read(host: Host) -> None:
    """After an installation, nobody has to say so to each user's systemd."""
    host.answers(ABSENT, INACTIVE, ACTIVE)

    assert main(["start", "web"]) == 0
    assert host.asked()[0] == "daemon-reload"


def test_without_the_unit_it_is_said_where_it_comes_from(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bpferry that was not installed for all users has none."""
    host.answers(ABSENT)

    assert main(["start", "web"]) == 1
    assert "your systemd has no unit 'bpferry@.service'" in capsys.readouterr().err


def test_refusal_of_systemd_is_told(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """In its own words."""
    host.answers(INACTIVE)
    host.refuses("Failed to do it: Because\n")

    assert main(["enable", "web"]) == 1
    assert f"systemctl --user --quiet enable {UNIT}: Failed to do it: Because" in (
        capsys.readouterr().err
    )


def test_enable_says_that_a_user_without_linger_takes_the_vm_along(
    host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, with the command that changes it."""
    monkeypatch.setattr(user_manager, "has_linger", lambda: False)
    host.answers(ENABLED)

    assert main(["enable", "web"]) == 0
    said = capsys.readouterr()
    assert "'web' is started when you log in\n" == said.out
    assert 1 == said.err.count("\n")
    assert "the VM ends with your last session" in said.err
    assert "sudo loginctl enable-linger " in said.err


def test_enable_with_linger_says_when(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """The VM runs again after the host has restarted."""
    host.answers(ENABLED)

    assert main(["enable", "web"]) == 0
    assert "'web' is started when this host starts\n" == capsys.readouterr().out


def test_disable_leaves_a_running_vm_alone(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """And says that it runs on."""
    host.answers(ACTIVE)

    assert main(["disable", "web"]) == 0
    assert host.asked() == [f"--quiet disable {UNIT}"]
    assert "'web' is not started by itself any more; it runs until it is stopped\n" == (
        capsys.readouterr().out
    )


def no_bus(folder: Path) -> None:
    """Let systemctl fail as without a user's systemd."""
    path = folder / "bin/systemctl"
    path.write_text("#!/bin/sh\necho 'Failed to connect to bus: No medium found' >&2; exit 1\n")


@pytest.mark.parametrize("command", ["start", "restart", "enable", "disable"])
def test_without_a_systemd_of_the_user_it_is_said_why(
    command: str,
    host: Host,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And how to get one, or do without."""
    no_bus(host.folder)
    monkeypatch.setattr(user_manager, "BOOTED", host.folder)

    assert main([command, "web", "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "no-service-manager"
    assert "No medium found" in error["message"]
    assert error["hint"].endswith("start the VM in the foreground: bpferry run web")


def test_host_without_systemd_is_named(
    host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told to log in there."""
    no_bus(host.folder)
    monkeypatch.setattr(user_manager, "BOOTED", host.folder / "absent")

    assert main(["start", "web"]) == 1
    assert "this host was not booted with systemd\n" in capsys.readouterr().err


def test_host_without_systemctl_is_told(
    host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may not even be the command."""
    (host.folder / "bin/systemctl").unlink()
    monkeypatch.setenv("PATH", str(host.folder / "bin"))

    assert main(["start", "web"]) == 1
    assert "there is no systemctl here" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["start", "restart", "enable"])
def test_vm_without_a_description_is_not_known(
    command: str, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hint has the name that was meant."""
    assert main([command, "wep"]) == 2
    said = capsys.readouterr().err
    assert f"there is no VM 'wep': '{host.folder}/config/bpferry/vms' has no wep.toml" in said
    assert "do you mean 'web'?" in said


def test_a_file_in_place_of_a_name_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`bpferry run web.toml` works, so `bpferry start web.toml` is tried."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert main(["start", "here.toml"]) == 2
    assert "hint: give the name alone, without '.toml': here\n" in capsys.readouterr().err
    (tmp_path / "here.toml").touch()
    assert main(["start", "here.toml"]) == 2
    said = capsys.readouterr().err
    assert f"hint: move it to '{tmp_path}/config/bpferry/vms', and give the name alone, " in said


def test_a_description_that_is_here_and_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its name alone does not mean the file in this folder, and the hint says how to start it."""
    (tmp_path / "here.toml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for command in ("run", "check", "start"):
        assert main([command, "here"]) == 2
        assert "this folder has 'here.toml': run it by its path" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../web", "a b", "-x", "x" * 40, ""])
def test_name_that_no_unit_can_have_is_refused(
    name: str, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before systemd sees it."""
    assert main(["disable", "--", name]) == 2
    assert "cannot be the name of a VM" in capsys.readouterr().err
    assert not (host.folder / "asked").exists()


def test_two_descriptions_of_one_name_are_refused(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody could tell which of them was meant."""
    (host.folder / "config/bpferry/vms/web.xml").write_text("<domain/>", encoding="utf-8")

    assert main(["start", "web"]) == 2
    assert "there are two descriptions of the VM 'web'" in capsys.readouterr().err


@pytest.mark.usefixtures("host")
def test_run_takes_the_same_names(capsys: pytest.CaptureFixture[str]) -> None:
    """A name means the description of that VM, in any folder."""
    assert main(["run", "--dry-run", "web"]) == 0
    assert "web" in capsys.readouterr().out
    assert main(["check", "web"]) == 0


def test_description_of_another_name_is_refused(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    """One VM has one name, for all commands."""
    path = host.folder / "config/bpferry/vms/web.toml"
    path.rename(path.with_name("db.toml"))

    assert main(["run", "--dry-run", "db"]) == 2
    said = capsys.readouterr().err
    assert "db.toml' describes a VM with another name, 'web'" in said
    assert "rename the file to web.toml, or the VM to 'db'" in said
