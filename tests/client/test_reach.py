# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry ip, ssh of a VM that really runs. Its guest has no network: others answer for it."""

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bpferry.cli.main import main
from tests.client.running import BASE, DISK, runs, start, type_in

pytestmark = pytest.mark.qemu

FORWARD = (
    '[[cards]]\ntype = "user"\n[[cards.port-forwards]]\nprotocol = "tcp"\naddress = "127.0.0.1"\n'
    "[[cards.port-forwards.ranges]]\nstart = {}\nto = 22\n"
)
AGENT = '[[channels]]\ntype = "unix"\nname = "org.qemu.guest_agent.0"\n'


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))


@pytest.fixture
def port() -> int:
    """Return a port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def ssh(tmp_path: Path) -> dict[str, str]:
    """Return an environment whose ssh prints its words, one a line."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "ssh"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 7\n', encoding="utf-8")
    program.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }


def test_ssh_is_the_users_own_with_a_key_for_each_vm(
    tmp_path: Path, port: int, ssh: dict[str, str]
) -> None:
    """By the forwarded port; its words and its exit status are passed on."""
    words = ["ssh", "--user", "me", "-o", "ForwardAgent=yes", "t", "--", "ls", "-l", "/"]
    with start(tmp_path, BASE + DISK + FORWARD.format(port)) as run:
        runs(run)
        done = subprocess.run(
            [sys.executable, "-m", "bpferry", *words],
            env=ssh,
            capture_output=True,
            text=True,
            check=False,
        )
        type_in(run, b"q")
        assert run.status() == 0

    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout.splitlines() == [
        "-o", "HostKeyAlias=t",
        "-o", f'UserKnownHostsFile="{tmp_path}/bpferry/t/known_hosts"',
        "-o", "StrictHostKeyChecking=accept-new",
        "-o", "CheckHostIP=no",
        "-p", str(port), "-l", "me", "-o", "ForwardAgent=yes", "--", "127.0.0.1",
        "ls", "-l", "/",
    ]  # fmt: skip
    assert stat.S_IMODE((tmp_path / "bpferry" / "t").stat().st_mode) == 0o700


def test_ssh_that_is_only_printed(
    tmp_path: Path, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shell takes it as it is."""
    with start(tmp_path, BASE + DISK + FORWARD.format(port)) as run:
        runs(run)
        assert main(["ssh", "--print", "t"]) == 0
        type_in(run, b"q")
        assert run.status() == 0

    assert capsys.readouterr().out.endswith(f"-p {port} -- 127.0.0.1\n")


def test_without_any_way_to_ssh_everything_tried_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 1; nothing is started."""
    with start(tmp_path, BASE + DISK + '[[cards]]\ntype = "user"\n') as run:
        runs(run)
        assert main(["ssh", "t"]) == 1
        said = capsys.readouterr().err
        assert main(["ip", "t"]) == 1
        told = capsys.readouterr().err
        assert main(["ip", "--json", "t"]) == 0
        listed = json.loads(capsys.readouterr().out)
        type_in(run, b"q")
        assert run.status() == 0

    for text in (said, told):
        assert "guest agent: the VM has no channel for it; neighbour table: this host has" in text
    assert "error: no way to the ssh of 't': " in said
    assert "error: no address of 't' was found: " in told
    assert told.endswith(" in it and give the VM a channel 'org.qemu.guest_agent.0'\n")
    assert (listed["name"], listed["addresses"], len(listed["tried"])) == ("t", [], 2)


def test_an_agent_of_a_guest_that_has_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """QEMU's socket takes the question, and nobody answers."""
    with start(tmp_path, BASE + DISK + '[[cards]]\ntype = "user"\n' + AGENT) as run:
        runs(run)
        assert main(["ip", "t"]) == 1
        type_in(run, b"q")
        assert run.status() == 0

    said = capsys.readouterr().err
    assert "guest agent: no answer within 3 s" in said
    assert said.endswith("hint: wait until the guest is up, or install qemu-guest-agent in it\n")
