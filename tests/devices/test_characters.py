# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ports, consoles, channels and redirected devices in a real QEMU."""

import os
import socket
from pathlib import Path
from typing import cast

import pytest

from tests.client.support import wait_until
from tests.devices.running import Running, domain, running

pytestmark = pytest.mark.qemu

USB = "<controller type='usb' model='qemu-xhci'/>"
SPICE = "<graphics type='spice' autoport='yes'/>"

DEVICES = [
    ("<serial type='null'/>", "serial0", "isa-serial"),
    ("<console type='null'/>", "serial0", "isa-serial"),
    (f"{USB}<serial type='null'><target type='usb-serial'/></serial>", "serial0", "usb-serial"),
    ("<serial type='null'><target type='pci-serial'/></serial>", "serial0", "pci-serial"),
    (
        ("<serial type='null'><target type='isa-debug'/>"
        "<address type='isa' iobase='0x402'/></serial>"),
        "serial0",
        "isa-debugcon",
    ),
    ("<parallel type='null'><target port='1'/></parallel>", "parallel0", "isa-parallel"),
    (
        "<console type='null'><target type='virtio'/></console>",
        "console0",
        "virtconsole",
    ),
    (
        "<channel type='null'><target type='virtio' name='a'/></channel>",
        "channel0",
        "virtserialport",
    ),
    (f"{USB}<redirdev bus='usb' type='null'/>", "redir0", "usb-redir"),
    (f"{USB}<smartcard mode='passthrough' type='null'/>", "smartcard0", "ccid-card-passthru"),
]  # fmt: skip


@pytest.mark.parametrize(("devices", "device_id", "driver"), DEVICES)
def test_device_is_there(devices: str, device_id: str, driver: str, tmp_path: Path) -> None:
    """QEMU has made the device, under the name that it has on the command line."""
    with running(domain(devices), tmp_path) as vm:
        assert driver == vm.qom_type(device_id)


def chardev(vm: Running, name: str) -> str:
    """Return what QEMU says is behind the chardev *name*."""
    found = cast("list[dict[str, str]]", vm.execute("query-chardev"))
    return next(one["filename"] for one in found if one["label"] == name)


BACK_ENDS = [
    ("null", "", "null"),
    ("vc", "", "vc"),
    ("pty", "", "pty:/dev/pts/"),
    ("stdio", "", "stdio"),
    ("file", "<source path='{tmp}/out'/>", "file"),
    ("null", "<log file='{tmp}/log'/>", "null"),
    ("udp", "<source host='127.0.0.1' service='9'/>", "udp"),
    ("unix", "<source mode='bind' path='{tmp}/sock'/>", "disconnected:unix:{tmp}/sock"),
    (
        "tcp",
        "<source mode='bind' host='127.0.0.1' service='0'/><protocol type='telnet'/>",
        "disconnected:telnet:127.0.0.1:",
    ),
    ("qemu-vdagent", "<source><clipboard copypaste='yes'/></source>", "qemu-vdagent"),
]


@pytest.mark.parametrize(("kind", "inner", "expected"), BACK_ENDS)
def test_back_end_is_there(kind: str, inner: str, expected: str, tmp_path: Path) -> None:
    """QEMU has opened what is behind the device."""
    serial = f"<serial type='{kind}'>{inner.format(tmp=tmp_path)}</serial>"

    with running(domain(serial), tmp_path) as vm:
        assert chardev(vm, "charserial0").startswith(expected.format(tmp=tmp_path))


def test_spice_channel_is_there(tmp_path: Path) -> None:
    """A channel of SPICE's agent is one of the display's."""
    agent = f"{SPICE}<channel type='spicevmc'><target type='virtio'/></channel>"

    with running(domain(agent), tmp_path) as vm:
        assert "com.redhat.spice.0" == vm.property_of("channel0", "name")


def test_redirection_rules_are_understood(tmp_path: Path) -> None:
    """QEMU reads the rules as they are meant, since it refuses what it cannot read."""
    rules = "<usbdev class='8' vendor='0x15e1' version='1.1' allow='yes'/><usbdev allow='no'/>"
    devices = f"{USB}<redirdev bus='usb' type='null'/><redirfilter>{rules}</redirfilter>"

    with running(domain(devices), tmp_path) as vm:
        assert "0x08:0x15E1:-1:0x0110:1|-1:-1:-1:-1:0" == vm.property_of("redir0", "filter")


def test_pipe_is_opened(tmp_path: Path) -> None:
    """A pair of named pipes carries both directions."""
    for name in ("p.in", "p.out"):
        os.mkfifo(tmp_path / name)
    serial = f"<serial type='pipe'><source path='{tmp_path}/p'/></serial>"

    with running(domain(serial), tmp_path) as vm:
        assert "pipe" == chardev(vm, "charserial0")


def test_device_of_the_host_is_opened(tmp_path: Path) -> None:
    """A terminal of the host is behind the port."""
    ours, theirs = os.openpty()
    try:
        serial = f"<serial type='dev'><source path='{os.ttyname(theirs)}'/></serial>"

        with running(domain(serial), tmp_path) as vm:
            assert "serial" == chardev(vm, "charserial0")
    finally:
        os.close(ours)
        os.close(theirs)


def test_client_reaches_a_channel_of_the_vm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest agent's channel is a socket in the VM's folder, and gone with the VM."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    name = "org.qemu.guest_agent.0"
    path = tmp_path / "bpferry" / "devices" / name
    agent = f"<channel type='unix'><target type='virtio' name='{name}'/></channel>"

    with running(domain(agent), tmp_path) as vm, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))

        assert wait_until(lambda: not chardev(vm, "charchannel0").startswith("disconnected"))
    assert not path.exists()


def test_connection_is_made(tmp_path: Path) -> None:
    """QEMU connects to a socket at which somebody listens."""
    path = tmp_path / "listening"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(1)
        serial = f"<serial type='unix'><source mode='connect' path='{path}'/></serial>"

        with running(domain(serial), tmp_path):
            server.settimeout(10)
            server.accept()[0].close()


def test_lost_connection_is_made_again(tmp_path: Path) -> None:
    """The time to reconnect is understood by QEMU; without one it would refuse to start."""
    path = tmp_path / "later"
    source = f"<source path='{path}'><reconnect enabled='yes' timeout='1'/></source>"

    with (
        running(domain(f"<serial type='unix'>{source}</serial>"), tmp_path),
        socket.socket(socket.AF_UNIX) as server,
    ):
        server.bind(str(path))
        server.listen(1)
        server.settimeout(10)

        server.accept()[0].close()


def test_forwarded_channel_is_there(tmp_path: Path) -> None:
    """A channel of the guest's network has its chardev in use."""
    target = "<target type='guestfwd' address='10.0.2.1' port='4600'/>"

    with running(domain(f"<channel type='null'>{target}</channel>"), tmp_path) as vm:
        found = cast("list[dict[str, object]]", vm.execute("query-chardev"))

    assert [True] == [one["frontend-open"] for one in found if one["label"] == "charchannel0"]


def test_what_a_guest_writes_is_in_the_file(tmp_path: Path) -> None:
    """The file that bpferry opened is the one that QEMU writes into."""
    path = tmp_path / "log"
    path.write_text("before\n")
    serial = f"<serial type='file'><source path='{path}' append='on'/></serial>"
    # The firmware writes its words where a debug console is.
    debug = "<target type='isa-debug'/><address type='isa' iobase='0x402'/>"

    with running(domain(serial.replace("</serial>", f"{debug}</serial>")), tmp_path) as vm:
        vm.execute("cont")

        assert wait_until(lambda: "SeaBIOS" in path.read_text())
    assert path.read_text().startswith("before\n")
