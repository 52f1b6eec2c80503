# SPDX-License-Identifier: LGPL-2.1-or-later
"""The state folder: files are replaced whole, and one that cannot be read is ignored."""

from pathlib import Path

import pytest

from bpferry_helper.bpf.state import MAX_FILE_BYTES, StateFolder
from bpferry_helper.errors import StartupError


def test_a_file_is_replaced_whole(state: StateFolder, tmp_path: Path) -> None:
    """Beside its place first, then renamed."""
    state.write("a", b"old")
    state.write("a", b"new")

    assert (state.read("a"), [p.name for p in tmp_path.iterdir()]) == (b"new", ["a"])


def test_a_write_that_fails_leaves_the_old_file(state: StateFolder, tmp_path: Path) -> None:
    """And nothing beside it."""
    state.write("a", b"old")
    (tmp_path / "a.new").mkdir()
    with pytest.raises(IsADirectoryError):
        state.write("a", b"new")

    assert state.read("a") == b"old"


def test_what_is_left_of_a_killed_writer_is_not_a_file(state: StateFolder, tmp_path: Path) -> None:
    """It does not appear among the names."""
    (tmp_path / "object-1.new").write_bytes(b"half")
    state.write("object-2", b"whole")

    assert state.names("object-") == ["object-2"]


@pytest.mark.parametrize("kind", ["missing", "folder", "link", "too long"])
def test_what_is_not_a_file_reads_as_none(state: StateFolder, tmp_path: Path, kind: str) -> None:
    """The state is a hint; whatever lies there, the helper goes on."""
    path = tmp_path / "a"
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("/etc/passwd")
    elif kind == "too long":
        path.write_bytes(bytes(MAX_FILE_BYTES + 1))

    assert state.read("a") is None


@pytest.mark.parametrize("path", ["", "/nonexistent/bpferry"])
def test_without_a_state_folder_the_helper_does_not_start(path: str) -> None:
    """The message says what the unit lacks."""
    with pytest.raises(StartupError, match="StateDirectory="):
        StateFolder(path)
