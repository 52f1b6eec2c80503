# SPDX-License-Identifier: LGPL-2.1-or-later
"""The README's examples, tried."""

import fnmatch
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bpferry_helper.errors import PolicyError
from bpferry_helper.policy.toml_form import CHECKS, PORT_CHECKS, parse_policy
from tests.client import fake_helper as fake

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def _blocks(kind: str) -> list[str]:
    """Return the fenced blocks of *kind*, in their order."""
    return re.findall(rf"^```{kind}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def _commands() -> list[list[str]]:
    lines = [line for block in _blocks("console") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines]


def _run_bpferry(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = f"{REPOSITORY / 'client'}:{REPOSITORY / 'shared'}"
    return subprocess.run(
        [sys.executable, "-m", "bpferry", *arguments],
        cwd=folder,
        env={
            "PYTHONPATH": path,
            "PATH": "/usr/bin:/bin",
            "BPFERRY_TAP_SOCKET": str(folder / "tap.sock"),
            "BPFERRY_BPF_SOCKET": str(folder / "bpf.sock"),
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    """Give a folder with the README's VM and the files that it names."""
    (tmp_path / "web.toml").write_text(_blocks("toml")[0], encoding="utf-8")
    (tmp_path / "web.qcow2").touch()
    return tmp_path


@pytest.mark.qemu
def test_the_description_of_a_vm_can_be_run(folder: Path) -> None:
    """The README's description becomes a command line with its four queues, steered by eBPF."""
    with (
        fake.helper(folder / "tap.sock", fake.permits(fake.hangs_up)),
        fake.helper(folder / "bpf.sock", fake.permits(fake.hangs_up)),
    ):
        done = _run_bpferry(folder, "run", "--dry-run=json", "web.toml")

    assert done.returncode == 0, done.stderr
    (nic,) = json.loads(done.stdout)["nics"]
    assert [nic["steering"], nic["queues"]] == ["ebpf", 4]


@pytest.mark.qemu
@pytest.mark.parametrize(
    "command",
    [
        ["run", "--dry-run", "web.toml"],
        ["check", "web.toml"],
        ["convert", "web.toml"],
        ["capabilities"],
    ],
)
def test_commands_of_the_client_work(folder: Path, command: list[str]) -> None:
    """The commands that start no VM end with status 0; the README has them in these words."""
    assert ["bpferry", *command] in _commands()

    with fake.helper(folder / "tap.sock", fake.permits(fake.hangs_up)):
        done = _run_bpferry(folder, *command)

    assert done.returncode == 0, done.stderr


def test_the_policy_is_valid_and_names_every_key() -> None:
    """The README's policy has no mistake, and shows all that there is."""
    text = _blocks("toml")[1].replace("alice", "root")
    text = text.replace('"bpferry"', "1").replace(".bpferry", ".1")

    policy = parse_policy("policy.toml", text, socket_gid=0)
    # What is said of a port is shown once, in a bridge's table.
    elsewhere = {f"{table}.*.{key}" for table in ("users", "groups") for key in PORT_CHECKS}
    missing = {key for key in CHECKS if not fnmatch.filter(policy.lines, key)} - elsewhere

    assert set() == missing


def test_a_policy_with_an_unknown_key_is_not_valid() -> None:
    """The check above can fail."""
    with pytest.raises(PolicyError, match=r"policy\.toml:2"):
        parse_policy("policy.toml", "[quota]\nsets = 1\n", socket_gid=0)


def test_every_tool_that_the_readme_names_is_there() -> None:
    """What a reader is told to run exists and is executable."""
    tools = {words[1] for words in _commands() if words[:1] == ["sudo"] and "/" in words[1]}

    assert {"tools/demo", "tools/install", "tools/test"} <= tools
    assert all((REPOSITORY / tool).stat().st_mode & 0o111 for tool in tools)
