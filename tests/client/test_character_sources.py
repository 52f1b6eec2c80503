# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices, pipes and sockets that QEMU opens for a character device are looked for beforehand."""

import os
import socket
from pathlib import Path

import pytest

from bpferry.domain.document import read_bytes
from bpferry.domain.forms import in_form
from bpferry.machine.character_sources import find_missing_sources
from tests.client.running import BASE, start


def found(folder: Path, kind: str, source: str, key: str = "serials") -> list[tuple[str, ...]]:
    """Return element, message and hint of what is in the way of a character device."""
    text = f'name = "a"\nmemory = "1 MiB"\n[[{key}]]\ntype = "{kind}"\nsources = [{{{source}}}]\n'
    machine = read_bytes(text.encode(), folder / "vm.toml").machine
    return [
        (error.element or "", error.message, in_form(error.hint, "toml"))
        for error in find_missing_sources(machine)
    ]


def test_device_that_is_not_there(tmp_path: Path) -> None:
    """Its place, its path and the cause are told."""
    assert found(tmp_path, "dev", 'path = "/dev/nosuch"', "parallels") == [
        (
            "parallels[0].sources[0].path",
            "cannot use the device '/dev/nosuch': No such file or directory",
            "correct the path, or connect the device",
        )
    ]


def test_file_is_no_device(tmp_path: Path) -> None:
    """It has a type of its own."""
    (tmp_path / "f").touch()

    ((_, message, hint),) = found(tmp_path, "dev", 'path = "f"')
    assert message.endswith("it is not a character device")
    assert hint == "use type 'file' to write to a file"


def test_pipes_have_to_be_there(tmp_path: Path) -> None:
    """Both of them, or one for both ways."""
    ((_, message, hint),) = found(tmp_path, "pipe", 'path = "p"')
    assert message == f"cannot open the named pipes '{tmp_path}/p.in' and '{tmp_path}/p.out'"
    assert hint == f"make them: mkfifo '{tmp_path}/p.in' '{tmp_path}/p.out'"

    for end in ("in", "out"):
        os.mkfifo(tmp_path / f"p.{end}")
    assert [] == found(tmp_path, "pipe", 'path = "p"')

    os.mkfifo(tmp_path / "q")
    assert [] == found(tmp_path, "pipe", 'path = "q"')


def test_socket_needs_a_listener(tmp_path: Path) -> None:
    """A file that a dead process left is not enough; whom QEMU tries again may come later."""
    connect = 'mode = "connect", path = "s"'
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        assert [] == found(tmp_path, "unix", connect)

    ((_, message, hint),) = found(tmp_path, "unix", connect)
    assert message == f"cannot connect to '{tmp_path}/s': nothing listens there"
    assert hint.endswith("or let QEMU try again: 'reconnect'")
    again = f"{connect}, reconnect = true, reconnect-seconds = 1"
    assert [] == found(tmp_path, "unix", again)
    assert [] == found(tmp_path, "unix", 'mode = "bind", path = "t"')


def test_console_that_is_a_serial_port_is_told_once(tmp_path: Path) -> None:
    """Libvirt's documents have both."""
    text = 'type = "dev"\nsources = [{path = "/dev/nosuch"}]\n'
    document = f'name = "a"\nmemory = "1 MiB"\n[[serials]]\n{text}[[consoles]]\n{text}'
    machine = read_bytes(document.encode(), tmp_path / "vm.toml").machine

    assert ["serials[0].sources[0].path"] == [
        error.element for error in find_missing_sources(machine)
    ]


@pytest.mark.qemu
def test_run_stops_before_anything_is_made(tmp_path: Path) -> None:
    """With the place in the document."""
    serial = '[[serials]]\ntype = "dev"\nsources = [{path = "/dev/nosuch"}]\n'
    with start(tmp_path, BASE + serial) as run:
        assert run.status() == 1
        assert f"error: '{tmp_path}/vm.toml':6: 'serials[0].sources" in run.err()
        assert "qemu: " not in run.err()
