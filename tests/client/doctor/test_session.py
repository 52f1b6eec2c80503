# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is said about a user's session."""

import os
import resource
from pathlib import Path

import pytest

from bpferry.machine.doctor.finding import Finding
from bpferry.machine.doctor.session import BOOTED, LARGEST, LINGER, Session, check_session
from bpferry.network.groups import user_name
from tests.client.doctor.support import host, named

MANY = (1024, 524288)
UID = os.geteuid()
FOLDER = f"/run/user/{UID}"
GOOD = {
    f"{BOOTED}/": "",
    f"{FOLDER}/systemd/private": "",
    f"{LINGER}/{user_name(UID)}": "",
}
"""A host on which this user has all that a session can have."""


def found_in(
    folder: Path, name: str, files: dict[str, str], session: Session | None = None
) -> Finding:
    """Return the finding *name* about a session on a host with *files*."""
    made = host(folder, files)
    runtime = made.path(FOLDER)
    if runtime.exists():
        runtime.chmod(0o700)
    used = session or Session(UID, {"XDG_RUNTIME_DIR": FOLDER}, MANY, MANY)
    return named(check_session(made, used), name)


@pytest.mark.parametrize(
    "name",
    [
        "session.runtime-folder",
        "session.systemd",
        "session.linger",
        "session.open-files",
        "session.locked-memory",
    ],
)
def test_a_good_session_has_nothing_to_mend(tmp_path: Path, name: str) -> None:
    """Each fact is ok."""
    found = found_in(tmp_path, name, GOOD)

    assert (found.state, found.fix, found.command) == ("ok", "", "")


@pytest.mark.parametrize(
    ("uid", "asker", "told"),
    [(0, "alice", True), (0, "", False), (0, "root", False), (1000, "alice", False)],
)
def test_root_by_sudo_is_told_whom_it_is_about(
    tmp_path: Path,
    uid: int,
    asker: str,
    told: bool,  # noqa: FBT001
) -> None:
    """A user who runs sudo may take root's groups for his own."""
    session = Session(uid, {"SUDO_USER": asker}, MANY, MANY)
    found = [one for one in check_session(host(tmp_path, {}), session) if "user" in one.name]

    assert told is any("and not about 'alice'" in one.message for one in found)
    assert told is bool(found)


@pytest.mark.parametrize("given", [{}, {"XDG_RUNTIME_DIR": ""}, {"XDG_RUNTIME_DIR": "run"}])
def test_without_a_runtime_folder_there_is_another(tmp_path: Path, given: dict[str, str]) -> None:
    """The warning names it."""
    session = Session(UID, given, MANY, MANY)
    found = found_in(tmp_path, "session.runtime-folder", GOOD, session)

    assert found.state == "warning"
    assert f"'/tmp/bpferry-{UID}'" in found.message


def test_a_runtime_folder_that_is_gone_is_a_fault(tmp_path: Path) -> None:
    """Such as after a logout."""
    found = found_in(tmp_path, "session.runtime-folder", {f"{BOOTED}/": ""})

    assert found.state == "fault"
    assert "No such file or directory" in found.message


def test_a_runtime_folder_of_another_user_is_a_fault(tmp_path: Path) -> None:
    """As su leaves it."""
    session = Session(UID + 1, {"XDG_RUNTIME_DIR": FOLDER}, MANY, MANY)
    found = found_in(tmp_path, "session.runtime-folder", GOOD, session)

    assert (found.state, found.command) == ("fault", "unset XDG_RUNTIME_DIR")
    assert f"belongs to '{user_name(UID)}'" in found.message


def test_a_runtime_folder_that_others_can_enter_is_a_warning(tmp_path: Path) -> None:
    """The command closes it."""
    made = host(tmp_path, GOOD)
    made.path(FOLDER).chmod(0o755)
    session = Session(UID, {"XDG_RUNTIME_DIR": FOLDER}, MANY, MANY)
    found = named(check_session(made, session), "session.runtime-folder")

    assert (found.state, found.command) == ("warning", f"chmod 0700 {FOLDER}")


def test_without_systemd_there_is_nothing_to_linger(tmp_path: Path) -> None:
    """One warning says it all."""
    made = host(tmp_path, {f"{FOLDER}/": ""})
    names = [one.name for one in check_session(made, Session(UID, {}, MANY, MANY))]

    assert "session.linger" not in names
    assert "foreground only" in found_in(tmp_path, "session.systemd", {}).message


def test_a_user_without_a_manager_can_start_it(tmp_path: Path) -> None:
    """The command starts it."""
    found = found_in(tmp_path, "session.systemd", {f"{BOOTED}/": "", f"{FOLDER}/": ""})

    assert found.command == f"sudo systemctl start user@{UID}.service"


def test_a_user_who_does_not_linger_can(tmp_path: Path) -> None:
    """The command is the user's own."""
    found = found_in(tmp_path, "session.linger", {f"{BOOTED}/": "", f"{FOLDER}/": ""})

    assert (found.state, found.command) == (
        "warning",
        f"loginctl enable-linger {user_name(UID)}",
    )


@pytest.mark.parametrize(
    ("hard", "state"),
    [(resource.RLIM_INFINITY, "ok"), (LARGEST.most, "ok"), (LARGEST.most - 1, "warning")],
)
def test_a_card_with_all_queues_needs_many_files(tmp_path: Path, hard: int, state: str) -> None:
    """The hard limit counts, since a process may raise the soft one."""
    session = Session(UID, {}, (16, hard), MANY)

    assert state == found_in(tmp_path, "session.open-files", GOOD, session).state


@pytest.mark.parametrize(
    ("hard", "word"),
    [(8 << 20, "8,192 KiB of memory"), (resource.RLIM_INFINITY, "any amount of memory")],
)
def test_locked_memory_is_told_and_no_fault(tmp_path: Path, hard: int, word: str) -> None:
    """Only some VMs need it, and what they need is checked with them."""
    found = found_in(tmp_path, "session.locked-memory", GOOD, Session(UID, {}, MANY, (0, hard)))

    assert found.state == "ok"
    assert word in found.message
