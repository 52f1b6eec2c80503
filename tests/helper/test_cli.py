# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the administrator types, and its exit status."""

import gc
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bpferry_helper import cli
from bpferry_helper.errors import EXIT_CRASHED, StartupError
from bpferry_wire import VERSION
from tests.support.helper_process import helper_command
from tests.support.people import SOCKET_GID

pytestmark = pytest.mark.privileged


def run(*arguments: str, user: int = 0, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run ``bpferry-helper`` with *arguments*."""
    return subprocess.run(
        helper_command(*arguments), capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], **environ}, user=user, group=SOCKET_GID, extra_groups=[],
    )  # fmt: skip


def test_garbage_is_collected_once_clients_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher turns that off for the start."""
    collects: list[bool] = []
    unused: Any = SimpleNamespace(sock=None)
    started = cli._Started(unused, unused, unused)
    server = SimpleNamespace(serve=lambda: collects.append(gc.isenabled()))
    monkeypatch.setattr("bpferry_helper.server.Server", lambda *_: server)
    monkeypatch.setattr(cli, "never_wait", lambda: None)
    monkeypatch.setattr("bpferry_helper.memory.keep_little", lambda: None)
    gc.disable()
    try:
        assert (cli._serve(lambda: started), collects) == (0, [True])
    finally:
        gc.enable()


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_goes_to_standard_output(option: str) -> None:
    """Exit status 0, at most 80 columns, and every command in it."""
    done = run(option)
    words = ("bpf ", "tap ", "check-policy", "slurm-gres", "status", "keep", "exit status")

    assert (
        done.returncode,
        done.stderr,
        [word in done.stdout for word in words],
    ) == (0, "", [True] * 7)
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_version_is_the_package_s() -> None:
    """One line."""
    done = run("--version")

    assert (0, f"bpferry-helper {VERSION}\n", "") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["net"],
        ["bpf", "--verbose"],
        ["tap", "br0"],
        ["--nonsense"],
        ["check-policy", "-x"],
        ["slurm-gres", "-x"],
        ["status", "x"],
        ["keep", "x"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    """The usage goes to standard error, and what was wrong below it."""
    done = run(*arguments)
    wrong = f"unknown arguments '{' '.join(arguments)}'" if arguments else "no command"

    assert (done.returncode, done.stdout, done.stderr.startswith("usage:")) == (2, "", True)
    assert done.stderr.endswith(f"\nbpferry-helper: error: wrong usage: {wrong}\n")


def test_a_good_policy_is_put_in_words(roots_folder: Path) -> None:
    """Exit status 0, and what it means on standard output."""
    path = roots_folder / "policy.toml"
    path.write_text("[load]\nusers = [1001]\n[quota]\nsets-per-user = 3\n")
    done = run("check-policy", str(path))

    assert (
        done.returncode,
        done.stderr,
        [word in done.stdout for word in ("is a valid policy", "objects: uid 1001.", "3 for each")],
    ) == (0, "", [True] * 3)


def test_an_empty_policy_is_a_policy(roots_folder: Path) -> None:
    """A file with comments only is there and valid."""
    path = roots_folder / "policy.toml"
    path.write_text("# nothing yet\n")

    assert f"{path} is a valid policy." in run("check-policy", str(path)).stdout


def test_a_path_that_is_not_there_is_status_1(roots_folder: Path) -> None:
    """Who names a file means one; without a policy in its usual place there is the default."""
    path = roots_folder / "none.toml"
    done = run("check-policy", str(path))

    assert (1, "") == (done.returncode, done.stdout)
    assert done.stderr == f"bpferry-helper: error: {path}: does not exist\n"


def test_a_policy_that_root_alone_can_read_is_none(roots_folder: Path) -> None:
    """The helpers are not root: what would be wrong for them is wrong here."""
    path = roots_folder / "policy.toml"
    path.write_text("[load]\nusers = [1001]\n")
    path.chmod(0o600)
    done = run("check-policy", str(path))

    assert (1, "") == (done.returncode, done.stdout)
    assert f"cannot be read by the helpers, which are not root: chmod 0644 {path}" in done.stderr


def test_a_bad_policy_is_status_1_with_its_line(roots_folder: Path) -> None:
    """File, line and mistake on standard error, nothing on standard output."""
    path = roots_folder / "policy.toml"
    path.write_text("\n[quota]\nsets-per-user = -1\n")
    done = run("check-policy", str(path))

    expected = f"bpferry-helper: error: {path}:3: 'sets-per-user' must be a number from 0 to 1024\n"
    assert (1, "", expected) == (done.returncode, done.stdout, done.stderr)


def test_a_crash_of_the_loop_is_no_failed_start(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A client that could cause it must not reach the unit's start limit. The control: a start."""

    class Crashing:
        def __init__(self, *_: object) -> None:
            pass

        def serve(self) -> None:
            raise KeyError("missing")

    def cannot() -> cli._Started:
        raise StartupError("no socket")

    monkeypatch.setattr("bpferry_helper.server.Server", Crashing)
    monkeypatch.setattr(cli, "never_wait", lambda: None)
    unused: Any = SimpleNamespace(sock=None)
    codes = [cli._serve(start) for start in (lambda: cli._Started(unused, unused, unused), cannot)]

    assert codes == [EXIT_CRASHED, cli.EXIT_FAILED]
    assert "serving: KeyError: 'missing' at " in capfd.readouterr().err


def test_keep_without_a_state_folder_is_refused() -> None:
    """Its unit has one; a person who types it is told so."""
    done = run("keep")

    assert done.returncode == 1
    assert "the unit must say StateDirectory=" in done.stderr
