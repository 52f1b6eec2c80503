# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether the name of a VM can be locked, found before anything is made."""

import os
from pathlib import Path

import pytest

from bpferry.cli.main import main
from bpferry.machine.lock_folders import find_half_locked, find_unlockable
from tests.client.support import let_in
from tests.support.people import ALICE, BOB, acting_as

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Return the folders for state and sockets, both of which Alice may use."""
    state, runtime = tmp_path / "state", tmp_path / "run"
    for path, variable in ((state, "XDG_STATE_HOME"), (runtime, "XDG_RUNTIME_DIR")):
        path.mkdir(mode=0o700)
        os.chown(path, ALICE.uid, ALICE.gid)
        monkeypatch.setenv(variable, str(path))
    let_in(tmp_path)
    for path in (state, runtime):
        path.chmod(0o700)
    return state, runtime


def close(path: Path) -> None:
    """Let nobody write into *path*."""
    path.chmod(0o500)


@pytest.mark.privileged
def test_a_name_that_can_be_locked_twice_is_nothing_to_tell(folders: tuple[Path, Path]) -> None:
    """And nothing is made to find out."""
    with acting_as(ALICE):
        found = [*find_unlockable("web"), *find_half_locked("web")]

    assert [] == found
    assert [] == [child for folder in folders for child in folder.iterdir()]


@pytest.mark.privileged
@pytest.mark.parametrize("which", [0, 1])
def test_one_place_is_enough_with_a_warning(folders: tuple[Path, Path], which: int) -> None:
    """It names the folder that is closed."""
    close(folders[which])
    with acting_as(ALICE):
        assert [] == list(find_unlockable("web"))
        [found] = find_half_locked("web")

    assert found.level == "warning"
    assert f"cannot make the folder '{folders[which]}/bpferry'" in found.message
    assert "set XDG_RUNTIME_DIR and XDG_STATE_HOME" in found.fix


@pytest.mark.privileged
def test_without_a_place_the_vm_does_not_start(folders: tuple[Path, Path]) -> None:
    """It is an error, and not a warning as well."""
    for folder in folders:
        close(folder)
    with acting_as(ALICE):
        assert [] == list(find_half_locked("web"))
        [found] = find_unlockable("web")

    assert (found.status, found.element) == (1, "name")
    assert found.message.startswith("cannot make sure that no other VM 'web' is running: ")


@pytest.mark.privileged
def test_a_folder_that_another_user_made_first_is_no_place(folders: tuple[Path, Path]) -> None:
    """In a place where everybody can make folders, such as /tmp."""
    for folder in folders:
        folder.chmod(0o1777)
        (folder / "bpferry").mkdir()
        (folder / "bpferry").chmod(0o777)
        os.chown(folder / "bpferry", BOB.uid, BOB.gid)
    with acting_as(ALICE):
        [found] = find_unlockable("web")

    assert f"belongs to the user {BOB.uid}" in found.message


@pytest.mark.privileged
@pytest.mark.qemu
def test_check_and_run_say_the_same(folders: tuple[Path, Path], capsys: Captured) -> None:
    """The sentence has the place of the name, and the status is 1."""
    file = folders[0].parent / "vm.toml"
    text = 'name = "web"\nmemory = "32 MiB"\naccelerator = "tcg"\n'
    file.write_text(text, encoding="utf-8")
    for folder in folders:
        close(folder)
    with acting_as(ALICE):
        statuses = [main([command, str(file)]) for command in ("check", "run")]
    said = capsys.readouterr()

    sentence = f"'{file}':1: 'name': cannot make sure that no other VM 'web' is running"
    assert [1, 1] == statuses
    assert f"error: {sentence}" in said.out
    assert f"error: {sentence}" in said.err
