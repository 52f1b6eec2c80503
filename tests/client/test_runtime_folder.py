# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the sockets of VMs are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bpferry.machine.folders import explain_session, folders_of, runtime_folders
from tests.client.support import let_in

NOBODY_S_UID = 1_700_112

DESCRIPTION = 'name = "web"\nmemory = "64 MiB"\naccelerator = "tcg"\n'

NOT_YOURS = (
    "XDG_RUNTIME_DIR is '{}', which is not yours; su and sudo keep the variable of another user: "
    "unset XDG_RUNTIME_DIR"
)


def say_as_another_user(command: str, folder: Path, session: Path) -> str:
    """Run *command* with a VM in *folder*, in a *session* of root's; return what is said."""
    let_in(folder)
    (folder / "web.toml").write_text(DESCRIPTION, encoding="ascii")
    (folder / "home").mkdir()
    os.chown(folder / "home", NOBODY_S_UID, NOBODY_S_UID)
    environment = {
        "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path),
        "HOME": str(folder / "home"), "XDG_RUNTIME_DIR": str(session),
    }  # fmt: skip
    user = ("setpriv", f"--reuid={NOBODY_S_UID}", f"--regid={NOBODY_S_UID}", "--clear-groups")
    argv = (*user, sys.executable, "-m", "bpferry", command, str(folder / "web.toml"))
    done = subprocess.run(
        argv, check=False, capture_output=True, text=True, env=environment, timeout=60
    )
    return done.stdout + done.stderr


def test_folder_of_a_session_elsewhere_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job of a cluster has the variables of the host that it was submitted at."""
    monkeypatch.setattr("os.getuid", lambda: NOBODY_S_UID)
    monkeypatch.setenv("XDG_RUNTIME_DIR", f"/run/user/{NOBODY_S_UID}")
    usual = f"/tmp/bpferry-{NOBODY_S_UID}/bpferry"

    assert f"{usual}/web" == folders_of("web").runtime
    assert Path(usual) == runtime_folders()[0]


def test_folder_that_is_yet_to_be_made_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who names another folder means it."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "later"))

    assert f"{tmp_path}/later/bpferry/web" == folders_of("web").runtime


@pytest.mark.qemu
@pytest.mark.privileged
@pytest.mark.parametrize("command", ["check", "run"])
def test_folder_of_another_user_s_session_is_named_as_the_cause(
    command: str, tmp_path: Path
) -> None:
    """`su` and `sudo -u` keep the variable; nobody has chosen a path."""
    session = tmp_path / "session"
    session.mkdir(0o700)

    said = say_as_another_user(command, tmp_path, session)

    assert f"cannot listen at '{session}/bpferry/web/qmp.sock'" in said
    assert NOT_YOURS.format(session) in said
    assert "choose another path" not in said


@pytest.mark.qemu
@pytest.mark.privileged
def test_folder_of_a_session_that_is_not_there_is_named_as_the_cause(tmp_path: Path) -> None:
    """Nor is it the fault of a path that cannot be made."""
    session = tmp_path / "gone"

    said = say_as_another_user("run", tmp_path, session)

    assert (
        f"XDG_RUNTIME_DIR is '{session}', which is not usable (No such file or directory): "
        "unset XDG_RUNTIME_DIR"
    ) in said
    assert "choose another path" not in said


def test_path_elsewhere_has_nothing_to_do_with_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint is for paths in the session's folder, and only if that is not ours."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "gone"))

    assert not explain_session(tmp_path / "mine.sock")
    assert explain_session(tmp_path / "gone" / "bpferry")

    (tmp_path / "gone").mkdir()

    assert not explain_session(tmp_path / "gone" / "bpferry")
