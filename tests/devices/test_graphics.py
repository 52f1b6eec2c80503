# SPDX-License-Identifier: LGPL-2.1-or-later
"""The displays of a real QEMU, as it tells of them itself, and as a client meets them."""

import socket
from pathlib import Path

import pytest

from bpferry.errors import BpferryError
from tests.devices.running import Running, domain, running

pytestmark = pytest.mark.qemu


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the VM's sockets in the test's own folder."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def vnc_servers(vm: Running) -> dict[bool, int]:
    """Return the ports of the VNC display, by whether they are for web sockets."""
    displays = vm.execute("query-vnc-servers")
    assert isinstance(displays, list)
    (display,) = displays
    return {server["websocket"]: int(server["service"]) for server in display["server"]}


def greeting(address: tuple[str, int] | str) -> bytes:
    """Return the first bytes that a server of VNC says at *address*."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(10)
        client.connect(address)
        return client.recv(3)


def test_vnc_takes_a_free_port(tmp_path: Path) -> None:
    """Two VMs whose documents leave the port open do not disturb each other."""
    first, second = (domain("<graphics type='vnc' port='-1'/>", name=name) for name in "ab")
    with running(first, tmp_path) as one, running(second, tmp_path) as other:
        ports = [vnc_servers(vm)[False] for vm in (one, other)]

        assert ports[0] != ports[1]
        assert [b"RFB", b"RFB"] == [greeting(("127.0.0.1", port)) for port in ports]


def test_vnc_with_web_sockets(tmp_path: Path) -> None:
    """There is a second server for browsers."""
    document = domain("<graphics type='vnc' port='-1' websocket='-1' sharePolicy='ignore'/>")
    with running(document, tmp_path) as vm:
        assert {False, True} == set(vnc_servers(vm))


def test_vnc_at_a_socket_leaves_nothing(tmp_path: Path) -> None:
    """The socket is there while the VM runs, in a folder that is the user's alone."""
    path = tmp_path / "bpferry" / "devices" / "vnc.sock"
    document = domain("<graphics type='vnc'><listen type='socket'/></graphics>")
    with running(document, tmp_path):
        assert b"RFB" == greeting(str(path))
        assert 0o700 == path.parent.stat().st_mode & 0o777

    assert not path.exists()


def test_vnc_does_not_take_the_place_of_a_file(tmp_path: Path) -> None:
    """QEMU alone would remove the file."""
    path = tmp_path / "precious"
    path.write_text("data")
    with (
        pytest.raises(BpferryError, match="not a socket"),
        running(domain(f"<graphics type='vnc' socket='{path}'/>"), tmp_path),
    ):
        pass

    assert "data" == path.read_text()


def test_spice_at_a_port_of_its_own(tmp_path: Path) -> None:
    """It listens at the port that the command line names, without a password."""
    with running(domain("<graphics type='spice' autoport='yes'/>"), tmp_path) as vm:
        found = vm.execute("query-spice")

        assert isinstance(found, dict)
        assert ("127.0.0.1", "none") == (found["host"], found["auth"])
        assert any(f"port={found['port']}," in word for word in vm.draft.build({}).argv)


def test_spice_with_all_its_settings(tmp_path: Path) -> None:
    """QEMU takes each of them."""
    path = tmp_path / "s.sock"
    settings = (
        f"<listen type='socket' socket='{path}'/><channel name='main' mode='insecure'/>"
        "<image compression='glz'/><jpeg compression='never'/><zlib compression='auto'/>"
        "<playback compression='off'/><streaming mode='filter'/><clipboard copypaste='no'/>"
        "<mouse mode='server'/><filetransfer enable='no'/>"
    )
    document = domain(f"<graphics type='spice' keymap='de'>{settings}</graphics>")
    with running(document, tmp_path) as vm:
        found = vm.execute("query-spice")

        assert isinstance(found, dict)
        assert (str(path), "server") == (found["host"], found["mouse-mode"])
        assert path.is_socket()
    assert not path.exists()


@pytest.mark.parametrize(
    ("graphics", "kind"),
    [
        ("", "none"),
        ("<graphics type='spice'/>", "none"),
        ("<graphics type='dbus' p2p='yes'/>", "dbus"),
    ],
)
def test_display_of_qemu_itself(graphics: str, kind: str, tmp_path: Path) -> None:
    """QEMU shows the display where the document says, and nowhere else."""
    with running(domain(graphics), tmp_path) as vm:
        found = vm.execute("query-display-options")

        assert isinstance(found, dict)
        assert kind == found["type"]
        assert [] == vm.execute("query-vnc-servers")
