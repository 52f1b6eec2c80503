# SPDX-License-Identifier: LGPL-2.1-or-later
"""--name and --set, as somebody who types them sees them."""

import json
from pathlib import Path

import pytest

from bpferry.cli.main import main

TEMPLATE = """
variables = ["task", "disk"]
memory = "64 MiB"
accelerator = "tcg"
[[disks]]
file = "${disk}"
format = "raw"
[[cards]]
type = "user"
mac = "52:54:00:00:00:${task:02x}"
"""


@pytest.fixture
def template(tmp_path: Path) -> str:
    """Return the path of a description for several VMs."""
    path = tmp_path / "vm.toml"
    path.write_text(TEMPLATE)
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    return str(path)


@pytest.mark.qemu
def test_dry_run_of_one_of_many(
    template: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Name, address and disk of a task come from the command line and from the environment."""
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "11")
    monkeypatch.setenv("task", "11")
    words = ["--name", "web-%a", "--set", "disk=disk", template]
    assert 0 == main(["run", "--dry-run=json", *words])

    argv = " ".join(json.loads(capsys.readouterr().out)["argv"])
    assert "guest=web-11" in argv
    assert "52:54:00:00:00:0b" in argv
    assert str(Path(template).parent / "disk") in argv


@pytest.mark.parametrize("command", ["run", "check", "convert", "doctor"])
def test_value_that_is_missing_has_status_2(
    command: str, template: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command that reads a description refuses one with a gap in the same words."""
    assert 2 == main([command, "--name", "web", "--set", "task=1", template])

    said = "".join(capsys.readouterr())
    assert "'disks[0].file': the variable 'disk' has no value" in said
    assert "--set disk=VALUE" in said


def test_name_of_a_task_outside_slurm(template: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that would be the same for all is refused, as JSON too."""
    assert 2 == main(["check", "--json", "--name", "web-%a", template])

    assert "SLURM_ARRAY_TASK_ID" in json.loads(capsys.readouterr().out)["error"]["message"]


@pytest.mark.parametrize("word", ["disk", "=x", ""])
def test_set_takes_a_name_and_a_value(
    word: str, template: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A word without '=' or without a name is wrong usage."""
    assert 2 == main(["check", "--set", word, template])

    assert "expected NAME=VALUE" in capsys.readouterr().err


def test_last_value_counts(template: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As with other options, a later one goes before; a value may have '=' in it."""
    words = ["--set", "disk=a", "--set", "disk=b=c", "--set", "task=1", "--name", "x"]
    assert 0 == main(["convert", "--to", "toml", *words, template])

    assert "/b=c" in capsys.readouterr().out


def test_name_of_a_vm_and_of_its_file_may_differ_then(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A VM that is called by its file's name can be started under another name on request."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "bpferry/vms"
    folder.mkdir(parents=True)
    (folder / "web.toml").write_text('name = "web"\nmemory = "64 MiB"\naccelerator = "tcg"\n')
    assert 0 == main(["run", "--dry-run=json", "--name", "web-2", "web"])

    assert "guest=web-2" in " ".join(json.loads(capsys.readouterr().out)["argv"])
