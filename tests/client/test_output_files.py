# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that QEMU inherits for what the guest writes."""

import os
import stat
from pathlib import Path

import pytest

from bpferry.commandline.parts import OutputFile
from bpferry.errors import BpferryError
from bpferry.machine.output_files import open_output


@pytest.mark.parametrize(("append", "expected"), [(False, b"new"), (True, b"oldnew")])
def test_file_is_cut_short_or_kept(tmp_path: Path, append: bool, expected: bytes) -> None:  # noqa: FBT001 - a table's column
    """What was in a file stays if the description says so."""
    path = tmp_path / "log"
    path.write_bytes(b"old")

    with open_output(OutputFile("serial0.log", str(path), "serials[0]", append=append)) as fd:
        os.write(fd, b"new")

    assert expected == path.read_bytes()


def test_new_file_is_for_the_user_alone(tmp_path: Path) -> None:
    """What a guest writes is for nobody else."""
    path = tmp_path / "log"

    with open_output(OutputFile("serial0.log", str(path), "serials[0]")):
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)


def test_missing_folder_is_told(tmp_path: Path) -> None:
    """The error names the path and what is wrong with it."""
    path = tmp_path / "no" / "log"

    with (
        pytest.raises(BpferryError, match=f"'{path}': No such file or directory"),
        open_output(OutputFile("serial0.log", str(path), "serials[0]")),
    ):
        pass


def test_pipe_that_nobody_reads_is_not_awaited(tmp_path: Path) -> None:
    """A named pipe without a reader is an error and no endless wait."""
    path = tmp_path / "pipe"
    os.mkfifo(path)

    with (
        pytest.raises(BpferryError, match="cannot write into"),
        open_output(OutputFile("serial0.log", str(path), "serials[0]")),
    ):
        pass


def test_writer_of_a_pipe_waits_for_its_reader(tmp_path: Path) -> None:
    """Once open, a file is as QEMU expects it: writing waits."""
    path = tmp_path / "log"

    with open_output(OutputFile("serial0.log", str(path), "serials[0]")) as fd:
        assert os.get_blocking(fd)
