# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which serial port `bpferry console` is at, for all kinds of them."""

from pathlib import Path

import pytest

from tests.client.terminals import VM, at_terminal, background_vm

HELLO = b"hello from the boot sector"

PTY = VM.replace('"stdio"', '"pty"')
TWO = PTY.replace("[[disks]]", '[[serials]]\ntype = "pty"\n[[disks]]')
FILE = VM.replace('type = "stdio"', 'type = "file"\nsources = [{{ path = "{path}" }}]')
UNIX = VM.replace(
    'type = "stdio"', 'type = "unix"\nsources = [{{ mode = "bind", path = "{path}" }}]'
)
NONE = VM.replace('[[serials]]\ntype = "stdio"\n', "")

pytestmark = pytest.mark.qemu


def test_pseudo_terminal(tmp_path: Path) -> None:
    """`bpferry console` opens the pseudo-terminal that QEMU has chosen."""
    with background_vm(tmp_path, PTY) as name, at_terminal("console", name) as person:
        assert person.sees(b"Ctrl-] leaves")
        person.types(b"echo")
        assert person.sees(b"echo")
        person.types(b"\x1dd")
        assert person.status() == 0
        assert person.sees(f"'{name}' keeps running".encode())


def test_unix_socket_serves_one_and_tells_the_next(tmp_path: Path) -> None:
    """QEMU's own socket has one connection; who comes second is told, and may come later."""
    path = tmp_path / "serial"
    text = UNIX.replace("{path}", str(path))
    with background_vm(tmp_path, text) as name:
        with at_terminal("console", name) as person:
            assert person.sees(b"Ctrl-] leaves")
            person.types(b"echo")
            assert person.sees(b"echo")
            with at_terminal("console", name) as other:
                assert other.status() == 1
                assert other.sees(f"another process is connected to '{path}' already".encode())
            person.types(b"\x1dd")
            assert person.status() == 0
        with at_terminal("console", name) as person:
            assert person.sees(b"Ctrl-] leaves")
            person.types(b"later")
            assert person.sees(b"later")


def test_two_serial_ports_are_chosen_by_name(tmp_path: Path) -> None:
    """Without a name both are listed with their places; with one it is that."""
    with background_vm(tmp_path, TWO) as name:
        with at_terminal("console", name) as person:
            assert person.status() == 2
            assert person.sees(f"'{name}' has 2 serial ports: serial0 (it is at /dev/".encode())
            assert person.sees(b"such as: bpferry console --serial serial0")
        with at_terminal("console", "--serial", "serial7", name) as person:
            assert person.status() == 2
            assert person.sees(f"'{name}' has no serial port 'serial7'".encode())
        with at_terminal("console", "--serial", "serial0", name) as person:
            assert person.sees(b"Ctrl-] leaves")
            person.types(b"first")
            assert person.sees(b"first")


def test_serial_port_that_is_a_file_is_named(tmp_path: Path) -> None:
    """Where nobody can be, it is said where the port is."""
    path = tmp_path / "out"
    with (
        background_vm(tmp_path, FILE.replace("{path}", str(path))) as name,
        at_terminal("console", name) as person,
    ):
        assert person.status() == 1
        assert person.sees(f"it writes into the file '{path}'".encode())


def test_vm_without_a_serial_port(tmp_path: Path) -> None:
    """It is said what to add."""
    with background_vm(tmp_path, NONE) as name, at_terminal("console", name) as person:
        assert person.status() == 1
        assert person.sees(f"'{name}' has no serial port".encode())
        assert person.sees(b'type = "stdio" in [[serials]]')
