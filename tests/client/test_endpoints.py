# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where somebody can connect is told when the VM runs, with what QEMU itself has chosen."""

import json
import re
import socket
import stat
from pathlib import Path
from typing import TextIO

import pytest

from tests.client.running import BASE, DISK, Run, start, type_in

pytestmark = pytest.mark.qemu

PTY = '[[serials]]\ntype = "pty"\n'
AGENT = '[[channels]]\ntype = "unix"\nname = "org.qemu.guest_agent.0"\n'
VNC = '[[graphics]]\ntype = "vnc"\nport = -1\nwebsocket = -1\n'
TCP = (
    '[[serials]]\ntype = "tcp"\nsources = [{{mode = "bind", host = "127.0.0.1", service = "{}"}}]\n'
)


def told(run: Run, name: str) -> str:
    """Return what is told of *name*, as soon as it is."""
    assert run.says(f"bpferry: {name}: "), run.err()
    (line,) = (line for line in run.err().splitlines() if line.startswith(f"bpferry: {name}: "))
    return line.removeprefix(f"bpferry: {name}: ")


def test_pseudo_terminal_that_qemu_chooses(tmp_path: Path) -> None:
    """It is there when it is told, and QEMU's own line about it is not shown as well."""
    with start(tmp_path, BASE + PTY) as run:
        path, kind = told(run, "serial0").split(maxsplit=1)

        assert kind == "(pseudo-terminal)"
        assert Path(path).is_char_device()
        assert "redirected" not in run.err() + run.out()


def test_pseudo_terminal_beside_the_console(tmp_path: Path) -> None:
    """The console begins with the guest's own words."""
    with start(tmp_path, BASE + DISK + PTY) as run:
        told(run, "serial1")
        assert run.says("hello")

        assert run.out().startswith("hello")


def test_ports_of_vnc_that_qemu_chooses(tmp_path: Path) -> None:
    """Somebody listens at the ports that are told, which QEMU has looked for."""
    with start(tmp_path, BASE + VNC) as run:
        assert run.says("(WebSocket, for browsers)")
        display, websocket = (
            re.fullmatch(r"bpferry: vnc: 127\.0\.0\.1:(\d+) (.+)", line)
            for line in run.err().splitlines()
            if "vnc" in line
        )
        assert display is not None
        assert websocket is not None

        assert display[2] == f"(display :{int(display[1]) - 5900})"
        for port in (display[1], websocket[1]):
            socket.create_connection(("127.0.0.1", int(port))).close()
        assert "VNC server running" not in run.err()


def test_everything_for_programs(tmp_path: Path) -> None:
    """With --json the same is part of the object at the end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with start(tmp_path, BASE + DISK + TCP.format(port) + AGENT, "--json") as run:
        agent = told(run, "guest agent").removeprefix("unix socket ")
        monitor = told(run, "qmp").removeprefix("unix socket ")
        assert Path(agent).is_socket()
        assert f"127.0.0.1:{port}" == told(run, "serial1")
        assert run.says("hello")
        type_in(run, b"q")
        assert run.status() == 0

        nothing = {"protocol": None, "host": None, "port": None, "path": None}
        assert json.loads(run.out())["endpoints"] == [
            {**nothing, "name": "qmp", "kind": "unix", "path": monitor},
            {**nothing, "name": "serial1", "kind": "tcp", "host": "127.0.0.1", "port": port},
            {**nothing, "name": "guest agent", "kind": "unix", "path": agent},
        ]


def test_card_that_qemu_waits_for(tmp_path: Path) -> None:
    """Before QEMU goes on, the user is told for whom it waits, and where."""
    text = (
        BASE
        + '[memory-backing]\naccess = "shared"\nsource = "memfd"\n'
        + f'[[cards]]\ntype = "vhostuser"\nsocket = "{tmp_path}/v"\nsocket-mode = "server"\n'
    )
    with start(tmp_path, text) as run:
        words = (
            f"QEMU waits for a process to connect to net0: unix socket {tmp_path}/v (vhost-user)"
        )
        assert run.says(words), run.err()


def test_monitor_for_tools_of_the_user(tmp_path: Path) -> None:
    """A second monitor answers at its socket, to its user only, one tool after the other."""
    with start(tmp_path, BASE + DISK) as run:
        path = Path(told(run, "qmp").removeprefix("unix socket "))
        assert path.name == "qmp.sock"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for _ in range(2):
            with socket.socket(socket.AF_UNIX) as tool, tool.makefile("rw") as stream:
                tool.connect(str(path))
                assert "QMP" in json.loads(stream.readline())
                assert ask(stream, "qmp_capabilities") == {}
                assert ask(stream, "query-status")["status"] == "running"

        type_in(run, b"q")
        assert run.status() == 0
        assert not path.exists()


def ask(stream: TextIO, command: str) -> dict[str, object]:
    """Return what a monitor answers; events between are passed over."""
    stream.write(json.dumps({"execute": command}) + "\n")
    stream.flush()
    for line in stream:
        if "return" in (answer := json.loads(line)):
            return dict(answer["return"])
    raise AssertionError(command)
