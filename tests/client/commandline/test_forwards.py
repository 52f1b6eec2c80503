# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ports of the host that QEMU's own user network leads into the guest."""

import socket
from pathlib import Path

import pytest

from tests.client.commandline.card_parts import card, netdev_of, parts_of
from tests.client.refusals import refusal_of
from tests.client.running import BASE, DISK, start


def forward(ranges: str, where: str = "") -> str:
    """Return a card of type user with one forward of TCP."""
    return card("user", f"<portForward proto='tcp' {where}>{ranges}</portForward>")


@pytest.mark.parametrize(
    ("ranges", "where", "expected"),
    [
        ("<range start='2222' to='22'/>", "", ["tcp::2222-:22"]),
        ("<range start='80'/>", "address='127.0.0.1'", ["tcp:127.0.0.1:80-:80"]),
        (
            (
                "<range start='8000' end='8003' to='80'/>"
                "<range start='8001' end='8002' exclude='yes'/>"
            ),
            "",
            ["tcp::8000-:80", "tcp::8003-:83"],
        ),
        ("<range start='1'/><range start='3'/>", "", ["tcp::1-:1", "tcp::3-:3"]),
    ],
)
def test_forwards(ranges: str, where: str, expected: list[str]) -> None:
    """Each port of each range that is not left out is one forward of QEMU's."""
    netdev = netdev_of(parts_of(forward(ranges, where)))

    assert [{"str": found} for found in expected] == netdev["hostfwd"]


def test_both_protocols() -> None:
    """UDP is forwarded as TCP is, and a card without forwards has no such property."""
    inner = "<portForward proto='udp'><range start='53'/></portForward>"

    assert [{"str": "udp::53-:53"}] == netdev_of(parts_of(card("user", inner)))["hostfwd"]
    assert "hostfwd" not in netdev_of(parts_of(card("user")))


@pytest.mark.parametrize(
    ("ranges", "where", "key"),
    [
        ("", "", ""),
        ("<range start='22' exclude='yes'/>", "", ""),
        ("<range start='22'/>", "dev='eth0'", ".interface"),
        ("<range start='22'/>", "address='::1'", ".address"),
        ("<range start='22' end='21'/>", "", ".ranges[0].end"),
        ("<range start='22' end='23' to='65535'/>", "", ".ranges[0].to"),
    ],
)
def test_what_only_passt_can_do(ranges: str, where: str, key: str) -> None:
    """What QEMU cannot forward is refused where it is."""
    assert f"cards[0].port-forwards[0]{key}" == refusal_of(parts_of, forward(ranges, where)).element


def test_too_many_ports() -> None:
    """Each port is a socket of its own, so that there is a bound."""
    refusal = refusal_of(parts_of, forward("<range start='1000' end='1256'/>"))
    assert "cards[0].port-forwards" == refusal.element
    found = netdev_of(parts_of(forward("<range start='1000' end='1255'/>")))["hostfwd"]
    assert isinstance(found, list)
    assert 256 == len(found)


@pytest.mark.qemu
def test_port_is_open_on_the_host(tmp_path: Path) -> None:
    """QEMU listens at the address and the port while the VM runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = (
        f'{BASE}{DISK}[[cards]]\ntype = "user"\n[[cards.port-forwards]]\nprotocol = "tcp"\n'
        f'address = "127.0.0.1"\n[[cards.port-forwards.ranges]]\nstart = {port}\nto = 22\n'
    )
    with start(tmp_path, text) as run:
        assert run.says("hello from the boot sector")
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
