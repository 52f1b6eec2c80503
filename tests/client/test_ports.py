# SPDX-License-Identifier: LGPL-2.1-or-later
"""A port or socket that is taken is found before QEMU starts."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpferry.commandline.parts import Endpoint
from bpferry.errors import BpferryError
from bpferry.machine.listening import MAX_PATH_BYTES
from bpferry.machine.ports import find_taken_ports

LOCAL = "127.0.0.1"

LOOK = """
import os, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
from tests.client.test_ports import found, tcp
(error,) = found(tcp(sys.argv[1], host="127.0.0.1"))
print(error.message); print(error.hint)
"""


def tcp(port: int | str, host: str = LOCAL, name: str = "vnc") -> Endpoint:
    """Return where VNC is to be."""
    return Endpoint(name, "tcp", "graphics[0]", host, str(port), protocol="vnc")


def unix(path: Path) -> Endpoint:
    """Return a socket that a serial port is to be at."""
    return Endpoint("serial0", "unix", "serials[0]", path=str(path))


def found(*endpoints: Endpoint) -> list[BpferryError]:
    """Return what is in the way."""
    return list(find_taken_ports(endpoints))


@contextlib.contextmanager
def listener(host: str = LOCAL, kind: socket.SocketKind = socket.SOCK_STREAM) -> Iterator[int]:
    """Take a port, and yield it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as sock:
        sock.bind((host, 0))
        if kind is socket.SOCK_STREAM:
            sock.listen()
        yield sock.getsockname()[1]


def test_port_that_is_taken() -> None:
    """Who has it is told, and what else there is."""
    with listener() as port:
        (error,) = found(tcp(port))
        name = Path("/proc/self/comm").read_text(encoding="utf-8").strip()
        assert error.message == (
            f"cannot listen at {LOCAL}:{port} for 'vnc': the port is taken now by process "
            f"{os.getpid()} ({name})"
        )
        assert error.hint == "choose another port, or -1 for one that is free"
        assert error.element == "graphics[0]"

    assert [] == found(tcp(port))


@pytest.mark.parametrize(
    ("taken", "wanted"),
    [("0.0.0.0", LOCAL), (LOCAL, "0.0.0.0"), (LOCAL, ""), ("::1", "::1"), ("::", "::1")],  # noqa: S104
)
def test_address_within_another(taken: str, wanted: str) -> None:
    """A port of all addresses and of one of them exclude each other."""
    with listener(taken) as port:
        assert 1 == len(found(tcp(port, wanted)))


def test_port_of_another_address_is_free() -> None:
    """Each address has its own ports, and so have IPv4 and IPv6."""
    with listener() as port:
        assert [] == found(tcp(port, "127.0.0.2"), tcp(port, "::1"))


@pytest.mark.parametrize("host", [LOCAL, "::1"])
def test_owner_of_the_same_port_at_another_address_is_not_named(host: str) -> None:
    """Of two processes with one port, the one that is in the way is told."""
    script = (
        "import socket, sys\n"
        f"family = socket.AF_INET6 if ':' in {host!r} else socket.AF_INET\n"
        f"server = socket.create_server(({host!r}, int(sys.argv[1])), family=family)\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    with listener("127.0.0.2") as port:
        argv = [sys.executable, "-c", script, str(port)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"ready\n"

            (error,) = found(tcp(port, host))
            other.communicate(b"")

    assert f"taken now by process {other.pid} " in error.message


def test_port_that_was_used_a_moment_ago_is_free() -> None:
    """A connection that has ended is in nobody's way, as QEMU sees it too."""
    with socket.create_server((LOCAL, 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection((LOCAL, port)):
            accepted, _ = server.accept()
            accepted.close()

    assert [] == found(tcp(port))


def test_port_of_udp() -> None:
    """UDP has ports of its own."""
    with listener(kind=socket.SOCK_DGRAM) as port:
        assert [] == found(tcp(port))
        (error,) = found(Endpoint("net0", "udp", "cards[0]", LOCAL, str(port)))

    assert f"taken now by process {os.getpid()} " in error.message


@pytest.mark.privileged
@pytest.mark.parametrize("ports", ["1", "80-90"])
def test_port_of_the_administrator(ports: str) -> None:
    """Where ports begin that everybody may have is told; a range may begin below."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [
        "unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh",
        sys.executable, "-c", LOOK, ports,
    ]  # fmt: skip
    done = subprocess.run(argv, check=True, capture_output=True, text=True, env=environment)

    message, hint = done.stdout.splitlines()
    assert message == (
        f"cannot listen at 127.0.0.1:{ports} for 'vnc': ports below 1024 are reserved for root"
    )
    assert hint.startswith("choose a port from 1024 on, or ask the administrator to lower ")


@pytest.mark.parametrize(
    ("host", "why"),
    [("192.0.2.1", "this host has no address '192.0.2.1'"),
     ("a..b", "there is no address of 'a..b'")],
)  # fmt: skip
def test_address_that_this_host_does_not_have(host: str, why: str) -> None:
    """That is another fault than a port that is taken."""
    (error,) = found(tcp(5999, host))

    assert why in error.message


def test_name_of_a_service() -> None:
    """A port may be called by its name (services(5)), and that name has to be known."""
    (error,) = found(tcp("no-such-service"))

    assert error.message.endswith("no service is called 'no-such-service'")


def test_one_port_twice() -> None:
    """Two things of one VM cannot have the same port."""
    (error,) = found(tcp(5998), tcp(5998, name="serial0"))

    assert error.message == f"cannot listen at {LOCAL}:5998 for 'serial0': 'vnc' is there"


def test_ports_that_nobody_can_know_yet() -> None:
    """What QEMU chooses, ranges, and ports of one interface are not looked at."""
    assert [] == found(tcp(""), tcp("1-99"), tcp(5997, "%nosuch0"))


def test_socket_that_is_taken(tmp_path: Path) -> None:
    """A process that listens at a path is not pushed away; one that has gone is no matter."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        (error,) = found(unix(path))
        assert error.message == f"cannot listen at '{path}': a process is already listening there"
        assert error.element == "serials[0]"

    assert [] == found(unix(path))
    assert path.is_socket()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("file", "a file that is no socket is in the way"),
        ("file/s", "Not a directory"),
        ("file/folder/s", "Not a directory"),
        ("x" * MAX_PATH_BYTES, "the path of a Unix socket has at most"),
        ("new/folder/s", ""),
    ],
)
def test_place_where_no_socket_can_be(name: str, why: str, tmp_path: Path) -> None:
    """What could not be made is found without making anything."""
    (tmp_path / "file").touch()

    errors = found(unix(tmp_path / name))

    assert [why in error.message for error in errors] == ([True] if why else [])
    assert ["file"] == [path.name for path in tmp_path.iterdir()]
