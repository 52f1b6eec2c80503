# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is behind network cards, on the command line."""

import msgspec
import pytest

from bpferry.commandline.parts import Companion, Link, Option, OwnSocket
from bpferry.qemu.capabilities import Capabilities
from tests.client.commandline.card_parts import (
    MAC,
    NEW,
    NEWEST,
    OLD,
    SHARED,
    TAP,
    VIRTIO,
    card,
    device_of,
    netdev_of,
    parts_of,
    properties_of,
)
from tests.client.refusals import refusal_of

LOCAL = "<local address='10.0.0.2' port='5556'/>"


@pytest.mark.parametrize(
    ("kind", "inner", "expected"),
    [
        ("user", "", {"type": "user"}),
        (
            "user",
            "<ip address='172.17.2.0' prefix='24'/><ip address='2001:db8::' prefix='64'/>",
            {
                "type": "user",
                "net": "172.17.2.0/24",
                "ipv6-prefix": "2001:db8::",
                "ipv6-prefixlen": 64,
            },
        ),
        ("user", "<ip address='10.0.0.0'/>", {"type": "user", "net": "10.0.0.0"}),
        (
            "udp",
            f"<source address='10.0.0.1' port='5555'>{LOCAL}</source>",
            {"type": "socket", "udp": "10.0.0.1:5555", "localaddr": "10.0.0.2:5556"},
        ),
        (
            "mcast",
            "<source address='230.0.0.1' port='5558'/>",
            {"type": "socket", "mcast": "230.0.0.1:5558"},
        ),
        ("server", "<source port='2015'/>", {"type": "socket", "listen": ":2015"}),
        (
            "server",
            "<source address='10.0.0.1' port='2015'/>",
            {"type": "socket", "listen": "10.0.0.1:2015"},
        ),
        (
            "client",
            "<source address='10.0.0.1' port='2015'/>",
            {"type": "socket", "connect": "10.0.0.1:2015"},
        ),
    ],
)  # fmt: skip
def test_back_end_without_a_tap(kind: str, inner: str, expected: dict[str, object]) -> None:
    """Each type is one netdev, joined to the card by its id."""
    parts = parts_of(card(kind, VIRTIO + inner))

    assert {**expected, "id": "hostnet0"} == netdev_of(parts)
    assert {"netdev": "hostnet0", "mac": MAC} == properties_of(parts)


@pytest.mark.parametrize(
    ("kind", "inner"),
    [
        ("bridge", "<source bridge='br0'/>"),
        ("network", "<source network='default'/>"),
        ("network", "<source network='default' portid='x' bridge='virbr0'/><target dev='vnet3'/>"),
        ("ethernet", TAP),
    ],
)
def test_tap(kind: str, inner: str) -> None:
    """Behind these types is a tap, whose fds are inherited, and vhost if the plan has it."""
    parts = parts_of(card(kind, VIRTIO + inner))

    assert {
        "type": "tap",
        "fds": "net0.tap0",
        "vhost": True,
        "vhostfds": "net0.vhost0",
        "id": "hostnet0",
    } == netdev_of(parts)


def test_queues_with_vhost() -> None:
    """Each queue has its fds; the device has the interrupts for them, and RSS with its program."""
    parts = parts_of(card("ethernet", f"{VIRTIO}{TAP}<driver queues='2' rss='on'/>"))

    netdev = netdev_of(parts)
    assert ("net0.tap0:net0.tap1", "net0.vhost0:net0.vhost1") == (netdev["fds"], netdev["vhostfds"])
    assert {
        "netdev": "hostnet0",
        "mac": MAC,
        "mq": True,
        "vectors": 6,
        "rss": True,
        "ebpf-rss-fds": ["net0.program", "net0.config", "net0.key", "net0.table"],
    } == properties_of(parts)


def test_queues_without_vhost() -> None:
    """QEMU 11.1 cannot have both, so that vhost is not there at all."""
    inner = f"{VIRTIO}{TAP}<driver queues='2' rss='on'/>"
    parts = parts_of(card("ethernet", inner), capabilities=NEWEST)

    assert {"type": "tap", "fds": "net0.tap0:net0.tap1", "id": "hostnet0"} == netdev_of(parts)
    assert "ebpf-rss-fds" in properties_of(parts)


def test_rss_by_qemu() -> None:
    """Where QEMU steers, it is given no program."""
    inner = f"{VIRTIO}{TAP}<driver queues='2' rss='on'/>"
    found = properties_of(parts_of(card("ethernet", inner), capabilities=OLD))

    assert (True, False) == (found["rss"], "ebpf-rss-fds" in found)


def test_send_buffer() -> None:
    """A tap's send buffer is a property of its netdev."""
    inner = f"{VIRTIO}{TAP}<tune><sndbuf>1600</sndbuf></tune>"

    assert 1600 == netdev_of(parts_of(card("ethernet", inner)))["sndbuf"]


VHOST_USER = "<source type='unix' path='/a.sock' mode='{mode}'>{inner}</source>"


@pytest.mark.parametrize(
    ("mode", "inner", "capabilities", "value"),
    [
        ("client", "", NEW, "socket,id=charnet0,path=/a.sock"),
        ("server", "", NEW, "socket,id=charnet0,path=/a.sock,server=on"),
        (
            "client",
            "<reconnect enabled='yes' timeout='10'/>",
            NEW,
            "socket,id=charnet0,path=/a.sock,reconnect-ms=10000",
        ),
        (
            "client",
            "<reconnect enabled='yes' timeout='10'/>",
            OLD,
            "socket,id=charnet0,path=/a.sock,reconnect=10",
        ),
        ("client", "<reconnect enabled='no'/>", NEW, "socket,id=charnet0,path=/a.sock"),
    ],
)
def test_vhost_user(mode: str, inner: str, capabilities: Capabilities, value: str) -> None:
    """QEMU connects to a socket, or makes one that it listens at."""
    source = VHOST_USER.format(mode=mode, inner=inner)
    parts = parts_of(card("vhostuser", source), top=SHARED, capabilities=capabilities)

    assert Option("-chardev", value) in parts
    assert (OwnSocket("/a.sock") in parts) is (mode == "server")
    assert {"type": "vhost-user", "chardev": "charnet0", "id": "hostnet0"} == netdev_of(parts)
    assert "virtio-net-pci" == device_of(parts).driver


def test_vhost_user_with_queues() -> None:
    """Several queues are said on both sides."""
    inner = VHOST_USER.format(mode="client", inner="") + "<driver queues='4'/>"
    parts = parts_of(card("vhostuser", inner), top=SHARED)

    assert 4 == netdev_of(parts)["queues"]
    assert (True, 10) == (properties_of(parts)["mq"], properties_of(parts)["vectors"])


PASST = (
    "<backend type='passt' logFile='/var/log/p'/><source dev='eth42'/><mtu size='1400'/>"
    "<ip address='172.17.2.1' family='ipv4' prefix='24'/><ip address='2001:db8::1' family='ipv6'/>"
    "<portForward proto='tcp' address='2001:db8::10'>"
    "<range start='22' to='2022'/><range start='1000' end='1050'/>"
    "<range start='1020' exclude='yes'/></portForward>"
    "<portForward proto='udp' address='1.2.3.4' dev='eth0'>"
    "<range start='5000' end='5020' to='6000'/></portForward>"
    "<portForward proto='tcp'/>"
)


PASST_ARGUMENTS = (
    "--mtu", "1400", "--interface", "eth42",
    "--log-file", "/var/log/p", "--address", "172.17.2.1", "--netmask", "24",
    "--address", "2001:db8::1",
    "--tcp-ports", "2001:db8::10/22:2022,1000-1050,~1020",
    "--udp-ports", "1.2.3.4%eth0/5000-5020:6000-6020",
    "--tcp-ports", "all",
)  # fmt: skip


def test_passt() -> None:
    """A card with passt has a process of its own, and both inherit the socket between them."""
    parts = parts_of(card("user", VIRTIO + PASST))

    (companion,) = [part for part in parts if isinstance(part, Companion)]
    assert ("passt", "--foreground", "--fd", "net0.qemu", *PASST_ARGUMENTS) == companion.argv
    assert ("", ("net0.qemu",), "cards[0]") == (
        companion.socket,
        companion.inherits,
        companion.key,
    )
    assert Link("net0.passt", "net0.qemu") in parts
    assert {
        "type": "stream",
        "addr": {"type": "fd", "str": "net0.passt"},
        "server": False,
        "id": "hostnet0",
    } == netdev_of(parts)
    assert 1400 == properties_of(parts)["host_mtu"]


def test_passt_over_vhost_user() -> None:
    """With vhost-user, passt works on the guest's memory, and has to make the socket itself."""
    parts = parts_of(card("vhostuser", PASST), top=SHARED)

    (companion,) = [part for part in parts if isinstance(part, Companion)]
    where = ("--vhost-user", "--one-off", "--socket", "/run/vm/net0-passt.sock")
    assert ("passt", "--foreground", *where, *PASST_ARGUMENTS) == companion.argv
    assert ("/run/vm/net0-passt.sock", ()) == (companion.socket, companion.inherits)
    value = "socket,id=charnet0,path=/run/vm/net0-passt.sock,reconnect-ms=5000"
    assert Option("-chardev", value) in parts


def test_passt_where_qemu_has_no_slirp() -> None:
    """A QEMU that was built without SLIRP uses passt, as under libvirt."""
    netdevs = {name: fields for name, fields in NEW.netdevs.items() if name != "user"}
    bare = msgspec.structs.replace(NEW, netdevs=netdevs)

    assert "stream" == netdev_of(parts_of(card("user"), capabilities=bare))["type"]

    neither = msgspec.structs.replace(bare, netdevs={})
    assert "cards[0].type" == refusal_of(parts_of, card("user"), capabilities=neither).element


@pytest.mark.parametrize(
    ("inner", "top", "key"),
    [
        (VHOST_USER.format(mode="client", inner=""), "", "type"),
        ("", SHARED, ""),
        ("<model type='e1000'/>", SHARED, "model"),
        ("<ip address='10.0.0.1'/>", SHARED, "ips"),
        (
            VHOST_USER.format(mode="server", inner="<reconnect enabled='yes' timeout='1'/>"),
            SHARED,
            "reconnect",
        ),
        (VHOST_USER.format(mode="client", inner="<reconnect enabled='yes'/>"), SHARED, "reconnect"),
        ("<source path='/a'/><backend type='passt'/>", SHARED, "socket"),
    ],
)
def test_vhost_user_refused_by_its_place(inner: str, top: str, key: str) -> None:
    """A card over vhost-user needs shared memory, a socket, and a virtio model."""
    refusal = refusal_of(parts_of, card("vhostuser", inner), top=top)
    assert f"cards[0].{key}".rstrip(".") == refusal.element


@pytest.mark.parametrize(
    ("ranges", "key"),
    [
        ("<range start='10' end='5'/>", "ranges[0].end"),
        ("<range start='1'/><range start='1' end='10' to='65530'/>", "ranges[1].to"),
    ],
)
def test_ports_that_cannot_be(ranges: str, key: str) -> None:
    """A range of ports has its ends in order, on both sides."""
    forward = f"<portForward proto='tcp'>{ranges}</portForward>"

    found = refusal_of(parts_of, card("user", f"<backend type='passt'/>{forward}")).element

    assert f"cards[0].port-forwards[0].{key}" == found


@pytest.mark.parametrize(
    "element",
    [
        "<guest dev='eth0'/>", "<backenddomain name='x'/>",
        "<source network='n' portid='873be5a0-6b8a-4a0b-a1df-ef3659cd64bc'/>",
    ],
)  # fmt: skip
def test_traces_of_a_past_run_are_passed_over(element: str) -> None:
    """What libvirt itself ignores for QEMU is ignored."""
    inner = element if "source" in element else f"<source network='n'/>{element}"

    assert "tap" == netdev_of(parts_of(card("network", inner)))["type"]


def test_names_come_from_the_user() -> None:
    """An alias that a user chose is the id of the device, and part of the names behind it."""
    parts = parts_of(card("ethernet", f"{VIRTIO}{TAP}<alias name='ua-lan'/>"))

    assert "ua-lan" == device_of(parts).id
    assert ("hostua-lan", "ua-lan.tap0") == (netdev_of(parts)["id"], netdev_of(parts)["fds"])
