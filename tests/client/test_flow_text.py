# SPDX-License-Identifier: LGPL-2.1-or-later
"""Flows as users write them, and where they arrive."""

from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from bpferry.errors import BadInput
from bpferry.steering.flow_text import Prediction, parse_flow, predict
from bpferry.steering.maps import Steering
from bpferry.steering.toeplitz import Flow, HashType

KEY = bytes.fromhex(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
)
"""Microsoft's, whose hashes are known."""

STEERING = Steering(
    redirect=True,
    hash_types=HashType(0x3F),
    key=KEY,
    table=tuple(entry % 4 for entry in range(128)),
    default_queue=3,
)


def flow(source: str, to: str, protocol: str, source_port: int = 0, port: int = 0) -> Flow:
    """Return a flow."""
    return Flow(ip_address(source), ip_address(to), protocol, source_port, port)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("tcp 10.0.0.1:40000 > 10.0.0.2:443", flow("10.0.0.1", "10.0.0.2", "tcp", 40000, 443)),
        ("udp [fd00::1]:1>[fd00::2]:65535", flow("fd00::1", "fd00::2", "udp", 1, 65535)),
        ("  icmp  10.0.0.1  >  10.0.0.2 ", flow("10.0.0.1", "10.0.0.2", "icmp")),
        ("ipv6-icmp [fd00::1] > fd00::2", flow("fd00::1", "fd00::2", "ipv6-icmp")),
    ],
)
def test_a_flow_is_read(text: str, meant: Flow) -> None:
    """Addresses of both families, ports where there are any, spaces as one likes."""
    assert meant == parse_flow(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is not 'PROTOCOL ADDRESS > ADDRESS'"),
        ("tcp", "it is not"),
        ("tcp 10.0.0.1:1", "it is not"),
        ("10.0.0.1:1 > 10.0.0.2:2", "it is not"),
        ("tcp 10.0.0.1 > 10.0.0.2", "'10.0.0.1' has no port"),
        ("tcp 10.0.0.1:1 > 10.0.0.2", "'10.0.0.2' has no port"),
        ("tcp fd00::1 > [fd00::2]:1", "'fd00::1' has no port"),
        ("icmp 10.0.0.1:1 > 10.0.0.2", "'icmp' has no ports"),
        ("tcp 10.0.0.1:0 > 10.0.0.2:1", "0 is not a port"),
        ("tcp 10.0.0.1:1 > 10.0.0.2:65536", "65536 is not a port"),
        ("tcp 10.0.0.1:1 > [fd00::2]:1", "one address is IPv4 and the other IPv6"),
        ("tcp web:1 > 10.0.0.2:1", "'web:1' is no address"),
        ("tcp 10.0.0.256:1 > 10.0.0.2:1", "'10.0.0.256:1' is no address"),
        ("tcp [10.0.0.1]:1 > 10.0.0.2:1", "'[10.0.0.1]:1' is no address"),
        ("tcp 10.0.0.1:٣ > 10.0.0.2:1", "is no address"),
    ],
)
def test_what_is_no_flow_is_refused_with_examples(text: str, why: str) -> None:
    """The message says what is wrong, and the hint how a flow is written."""
    with pytest.raises(BadInput, match="cannot read the flow") as caught:
        parse_flow(text)

    assert why in caught.value.message
    assert "tcp 10.0.0.1:40000 > 10.0.0.2:443" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "value", "with_ports"),
    [
        ("tcp 66.9.149.187:2794 > 161.142.100.80:1766", 0x51CCC178, True),
        ("icmp 66.9.149.187 > 161.142.100.80", 0x323E8FC2, False),
        ("tcp [3ffe:2501:200:1fff::7]:2794 > [3ffe:2501:200:3::1]:1766", 0x40207D3D, True),
        ("icmp 3ffe:2501:200:1fff::7 > 3ffe:2501:200:3::1", 0x2CC18CD5, False),
    ],
)
def test_hashes_are_those_that_microsoft_published(
    text: str, value: int, *, with_ports: bool
) -> None:
    """The hash, the entry that it takes, and the queue there."""
    entry = value % 128

    assert Prediction(entry % 4, value, entry, with_ports=with_ports) == predict(
        parse_flow(text), STEERING
    )


def test_without_the_type_of_its_ports_only_addresses_are_hashed() -> None:
    """A guest that hashes UDP by addresses sends all flows of two hosts to one queue."""
    steering = replace(STEERING, hash_types=HashType.IPV4)
    found = predict(parse_flow("udp 66.9.149.187:1 > 161.142.100.80:2"), steering)

    assert (0x323E8FC2, False) == (found.hash, found.with_ports)


@pytest.mark.parametrize(
    "steering",
    [
        replace(STEERING, hash_types=HashType.IPV6),
        replace(STEERING, redirect=False),
        replace(STEERING, table=()),
    ],
)
def test_what_is_not_hashed_goes_to_the_default_queue(steering: Steering) -> None:
    """There is no hash and no entry then."""
    found = predict(parse_flow("tcp 66.9.149.187:2794 > 161.142.100.80:1766"), steering)

    assert Prediction(3) == found
