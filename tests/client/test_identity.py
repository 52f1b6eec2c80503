# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which host this is, with and without a machine id."""

import json
import os
import socket
import subprocess
from pathlib import Path
from uuid import UUID

import pytest

from bpferry.cli.main import main
from bpferry.machine import draft
from bpferry.machine.identity import APPLICATION, MACHINE_ID_FILES, derive_host, find_identity
from tests import requires

ID = "8d6e5f4a3b2c1d0e9f8a7b6c5d4e3f20"


def files(folder: Path, *texts: str | None) -> tuple[str, ...]:
    """Return files that have these *texts*; for None there is no file."""
    paths = [folder / f"id{number}" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        if text is not None:
            path.write_text(text, encoding="ascii")
    return tuple(map(str, paths))


@pytest.mark.parametrize("text", [ID, ID + "\n", ID.upper() + "\n"])
def test_machine_id(text: str, tmp_path: Path) -> None:
    """The host is known by its machine id, and the user by the uid."""
    found = find_identity(files(tmp_path, text))

    assert (derive_host(UUID(ID)), os.getuid()) == (found.owner.host, found.owner.uid)
    assert found.doubt is None


@pytest.mark.parametrize(
    "text",
    [None, "", "\n", "uninitialized\n", "0" * 32, ID[:-1], ID + "0", f"{ID}\n{ID}", str(UUID(ID))],
)
def test_next_file_if_there_is_no_machine_id(text: str | None, tmp_path: Path) -> None:
    """What is not a machine id counts for nothing, and D-Bus may have one."""
    found = find_identity(files(tmp_path, text, ID))

    assert derive_host(UUID(ID)) == found.owner.host
    assert found.doubt is None


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A machine id that cannot be read is as good as none, and so are bytes that are not text."""
    (tmp_path / "bytes").write_bytes(b"\xff" * 32)

    found = find_identity((str(tmp_path), str(tmp_path / "bytes"), *files(tmp_path, ID)))

    assert derive_host(UUID(ID)) == found.owner.host


def test_name_of_the_host_is_the_last_resort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any machine id the host's name stands for it, each time, and the user is told."""
    seen = []
    for name in ("alpha", "alpha", "beta"):
        monkeypatch.setattr(socket, "gethostname", lambda name=name: name)
        seen.append(find_identity(files(tmp_path, "uninitialized\n", None)))

    first, again, other = seen
    assert first == again
    assert first.owner.host != other.owner.host
    assert first.doubt is not None
    assert f"'{tmp_path}/id0'" in first.doubt.message
    assert "'alpha'" in first.doubt.message
    assert "systemd-machine-id-setup" in first.doubt.hint


def test_machine_id_itself_does_not_get_out() -> None:
    """What is made of a machine id is another id, from which it cannot be seen."""
    host = derive_host(UUID(ID))

    assert not set(_chunks(ID)) & set(_chunks(host.hex))
    assert derive_host(UUID(ID[:-1] + "1")) != host


def _chunks(text: str) -> list[str]:
    return [text[at : at + 6] for at in range(len(text) - 5)]


def test_as_systemd_makes_it() -> None:
    """The id of this host is the one that systemd makes for the same application."""
    program = requires.program("systemd-id128")
    requires.file(MACHINE_ID_FILES[0], "systemd")
    command = [program, "machine-id", f"--app-specific={APPLICATION}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)

    assert UUID(done.stdout.strip()) == find_identity().owner.host


VM = 'name = "t"\nmemory = "32 MiB"\naccelerator = "tcg"\n'
NAMED = f'uuid = "{UUID(ID)}"\n[[cards]]\ntype = "user"\nmac = "52:54:00:00:00:01"\n'


@pytest.mark.qemu
@pytest.mark.parametrize(("text", "told"), [(VM, True), (VM + NAMED, False)], ids=["made", "named"])
def test_doubt_is_told_where_it_matters(
    text: str,
    told: bool,  # noqa: FBT001 - a table
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A dry run warns of a host without a machine id if anything of the VM is made of it."""
    monkeypatch.setattr(draft, "find_identity", lambda: find_identity(files(tmp_path, None)))
    (tmp_path / "vm.toml").write_text(text, encoding="utf-8")

    assert main(["run", "--dry-run=json", str(tmp_path / "vm.toml")]) == 0

    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert told == any(text.startswith("this host has no machine id") for text in warnings)
