# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where users and programs will be able to connect, as the command line knows beforehand."""

from collections.abc import Sequence

import pytest

from bpferry.commandline.parts import Endpoint, Part
from bpferry.machine.endpoints import describe
from tests.client.commandline import card_parts, character_parts, display_parts, extra_parts

RUNTIME = "/run/user/7/bpferry/vm"
UNIX = "<source mode='bind' path='/run/x'/>"
TELNET = "<source mode='bind' host='::' service='telnet'/>"
UDP = "<source mode='bind' service='5556'/><source mode='connect' host='h' service='5555'/>"
FORWARDS = (
    "<portForward proto='tcp' address='127.0.0.1'><range start='2222' to='22'/>"
    "<range start='80' end='89' to='8080'/><range start='85' exclude='yes'/></portForward>"
)

SLIRP = "<portForward proto='tcp'><range start='2222' to='22'/></portForward>"


def told(parts: Sequence[Part]) -> list[str]:
    """Return what the user would be told."""
    return [describe(part) for part in parts if isinstance(part, Endpoint)]


@pytest.mark.parametrize(
    ("graphics", "expected"),
    [
        ("<graphics type='vnc' port='5901'/>", ["vnc: 127.0.0.1:5901 (display :1)"]),
        ("<graphics type='vnc' port='-1'/>", ["vnc: QEMU does not say where"]),
        (
            "<graphics type='vnc' port='5900' websocket='5701' listen='::1'/>",
            ["vnc: [::1]:5900 (display :0)", "vnc: [::1]:5701 (WebSocket, for browsers)"],
        ),
        ("<graphics type='vnc' socket='/run/v'/>", ["vnc: unix socket /run/v"]),
        ("<graphics type='vnc'><listen type='none'/></graphics>", []),
        ("<graphics type='spice' port='5930'/>", ["spice: 127.0.0.1:5930"]),
        (
            "<graphics type='spice'><listen type='socket'/></graphics>",
            [f"spice: unix socket {RUNTIME}/spice.sock"],
        ),
        ("<graphics type='spice'><listen type='none'/></graphics>", []),
        ("<graphics type='egl-headless'/><graphics type='vnc' socket='/v'/>",
         ["vnc: unix socket /v"]),
    ],
)  # fmt: skip
def test_displays(graphics: str, expected: list[str]) -> None:
    """A display is where the document says, and nowhere if it says so."""
    assert expected == told(display_parts.parts_of(graphics))


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("<serial type='pty'/>", ["serial0: QEMU does not say where (pseudo-terminal)"]),
        (f"<serial type='unix'>{UNIX}</serial>", ["serial0: unix socket /run/x"]),
        ("<serial type='unix'><source mode='connect' path='/run/x'/></serial>", []),
        (
            f"<serial type='tcp'>{TELNET}<protocol type='telnet'/></serial>",
            ["serial0: [::]:telnet (telnet)"],
        ),
        ("<serial type='tcp'><source mode='connect' host='h' service='4'/></serial>", []),
        (
            f"<serial type='udp'>{UDP}</serial>",
            ["serial0: *:5556 (UDP)"],
        ),
        ("<parallel type='pipe'><source path='/p'/></parallel>",
         ["parallel0: named pipes /p.in and /p.out"]),
        ("<serial type='file'><source path='/f'/></serial>", []),
        (
            "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>",
            [f"guest agent: unix socket {RUNTIME}/org.qemu.guest_agent.0"],
        ),
        (
            "<channel type='unix'><target type='virtio' name='org.x'/></channel>",
            [f"org.x: unix socket {RUNTIME}/org.x"],
        ),
    ],
)  # fmt: skip
def test_character_devices(device: str, expected: list[str]) -> None:
    """What QEMU or bpferry listens at is told, and what QEMU itself connects to is not."""
    assert expected == told(character_parts.parts_of(device))


@pytest.mark.parametrize(
    ("kind", "inner", "expected"),
    [
        ("server", "<source address='10.0.0.1' port='2015'/>", ["net0: 10.0.0.1:2015"]),
        ("server", "<source port='2015'/>", ["net0: *:2015"]),
        (
            "udp",
            "<source address='h' port='1'><local address='127.0.0.1' port='2'/></source>",
            ["net0: 127.0.0.1:2 (UDP)"],
        ),
        (
            "user",
            f"<backend type='passt'/>{FORWARDS}",
            [
                "net0, port 22 of the guest: 127.0.0.1:2222",
                "net0, ports 8080-8089 of the guest: 127.0.0.1:80-89",
            ],
        ),
        (
            "user",
            "<backend type='passt'/><portForward proto='udp' dev='eth0'/>",
            ["net0, ports 1-65535 of the guest: %eth0:1-65535 (UDP)"],
        ),
        ("user", SLIRP, ["net0, port 22 of the guest: *:2222"]),
        ("user", "", []),
    ],
)
def test_cards(kind: str, inner: str, expected: list[str]) -> None:
    """Ports of this host that lead to a card are told."""
    assert expected == told(card_parts.parts_of(card_parts.card(kind, inner)))


def test_card_that_qemu_waits_for() -> None:
    """A process for a card of type vhostuser is waited for at the socket."""
    source = "<source type='unix' path='/run/v' mode='server'/><model type='virtio'/>"
    parts = card_parts.parts_of(card_parts.card("vhostuser", source), top=card_parts.SHARED)

    (endpoint,) = (part for part in parts if isinstance(part, Endpoint))
    assert endpoint.waits
    assert describe(endpoint) == "net0: unix socket /run/v (vhost-user)"


def test_vsock() -> None:
    """The CID is how programs of the host reach the guest."""
    parts = extra_parts.parts_of("<vsock model='virtio'><cid auto='no' address='7'/></vsock>")

    assert ["vsock: CID 7"] == told(parts)
