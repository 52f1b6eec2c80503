# SPDX-License-Identifier: LGPL-2.1-or-later
"""The displays of a real QEMU, as it tells of them itself, and as a client meets them."""

import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from bpferry.commandline.parts import Endpoint
from bpferry.errors import BpferryError
from tests import requires
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
        pytest.raises(BpferryError, match="no socket"),
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
        assert any(f"port={found['port']}," in word for word in vm.draft.built.argv)


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


def log_in(port: int, password: bytes) -> bool:
    """Answer the challenge of VNC (RFC 6143, 7.2.2); say whether the server lets us in."""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        assert client.recv(12).startswith(b"RFB 003.008")
        client.sendall(b"RFB 003.008\n")
        assert b"\x01\x02" == client.recv(2), "it wants a password, and nothing else"
        client.sendall(b"\x02")
        challenge = client.recv(16, socket.MSG_WAITALL)
        client.sendall(encrypt(password, challenge))
        return client.recv(4, socket.MSG_WAITALL) == b"\0\0\0\0"


def encrypt(password: bytes, challenge: bytes) -> bytes:
    """Encrypt by DES, whose keys VNC writes with their bits turned around.

    OpenSSL has DES by default only three times in a row; with one key, twice cancel out.
    """
    key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in password.ljust(8, b"\0"))
    argv = [requires.program("openssl"), "enc", "-des-ede3", "-nopad", "-K", (key * 3).hex()]
    return subprocess.run(argv, input=challenge, capture_output=True, check=True).stdout


def test_vnc_lets_in_who_knows_the_password(tmp_path: Path) -> None:
    """And nobody else; the password is in no argument."""
    with running(domain("<graphics type='vnc' passwd='geheim'/>"), tmp_path) as vm:
        port = vnc_servers(vm)[False]

        assert [False, True] == [log_in(port, word) for word in (b"falsch", b"geheim")]
        assert b"geheim" not in Path(f"/proc/{vm.child.pid}/cmdline").read_bytes()


def test_vnc_with_a_password_that_has_ended_lets_nobody_in(tmp_path: Path) -> None:
    """Not even who knows it."""
    ended = "passwd='geheim' passwdValidTo='2001-01-01T00:00:00'"
    with running(domain(f"<graphics type='vnc' {ended}/>"), tmp_path) as vm:
        assert not log_in(vnc_servers(vm)[False], b"geheim")


def test_spice_with_a_password(tmp_path: Path) -> None:
    """It asks for a ticket."""
    document = domain("<graphics type='spice' autoport='yes' passwd='geheim'/>")
    with running(document, tmp_path) as vm:
        found = vm.execute("query-spice")

        assert isinstance(found, dict)
        assert "spice" == found["auth"]


def make_certificates(folder: Path) -> None:
    """Make an authority, and the key and certificate of this host."""
    folder.mkdir(parents=True)
    openssl = requires.program("openssl")

    def run(*words: str) -> None:
        subprocess.run([openssl, *words], cwd=folder, check=True, capture_output=True)

    new = ("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run(*new, "-x509", "-subj", "/CN=ca", "-keyout", "ca-key.pem", "-out", "ca-cert.pem")
    run(*new, "-subj", "/CN=localhost", "-keyout", "server-key.pem", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    sign = ("x509", "-req", "-in", "server.csr", "-CA", "ca-cert.pem", "-CAkey", "ca-key.pem")
    run(*sign, "-CAcreateserial", "-extfile", "names", "-out", "server-cert.pem")


def test_spice_with_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that trusts the user's authority connects to the port with TLS, and it is told."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "bpferry" / "pki" / "spice"
    make_certificates(folder)
    with running(domain("<graphics type='spice' autoport='yes'/>"), tmp_path) as vm:
        (port,) = [
            int(part.port) for part in vm.draft.built.of(Endpoint) if part.protocol == "spice-tls"
        ]
        trust = ssl.create_default_context(cafile=str(folder / "ca-cert.pem"))
        with (
            socket.create_connection(("127.0.0.1", port), 10) as plain,
            trust.wrap_socket(plain, server_hostname="localhost") as client,
        ):
            assert client.version() is not None


def test_vnc_with_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the user's certificates it is VeNCrypt, with a password as well."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    make_certificates(tmp_path / "bpferry" / "pki" / "vnc")
    with running(domain("<graphics type='vnc' passwd='x'/>"), tmp_path) as vm:
        found = vm.execute("query-vnc-servers")

        assert isinstance(found, list)
        assert ("vencrypt", "x509-vnc") == (found[0]["auth"], found[0]["vencrypt"])


def test_tls_without_certificates_says_what_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The VM does not start."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    document = domain("<graphics type='spice' tlsPort='5999'/>")
    with pytest.raises(BpferryError) as caught, running(document, tmp_path):
        pass

    folder = tmp_path / "bpferry" / "pki" / "spice"
    assert (
        f"'{folder}' lacks ca-cert.pem, server-cert.pem and server-key.pem" in caught.value.message
    )
    assert "put there: ca-cert.pem, the CA certificate" in caught.value.hint
    assert "/domain/devices/graphics" == caught.value.element
