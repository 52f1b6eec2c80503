# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Toeplitz hash and the choice of a queue, against published vectors and QEMU's own program."""

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpferry.qemu.probe import probe
from bpferry.steering.toeplitz import Flow, HashType, hash_input, queue_for, toeplitz
from bpferry_wire.fds import OwnedFds
from tests.client import bpf
from tests.client.support import QEMU

KEY = bytes.fromhex(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
)
"""The key of Microsoft's "Verifying the RSS hash calculation"."""

# Source and its port, destination and its port, hash of the addresses, hash with the ports.
VECTORS = [
    ("66.9.149.187", 2794, "161.142.100.80", 1766, 0x323E8FC2, 0x51CCC178),
    ("199.92.111.2", 14230, "65.69.140.83", 4739, 0xD718262A, 0xC626B0EA),
    ("24.19.198.95", 12898, "12.22.207.184", 38024, 0xD2D0A5DE, 0x5C2B394A),
    ("38.27.205.30", 48228, "209.142.163.6", 2217, 0x82989176, 0xAFC7327F),
    ("153.39.163.191", 44251, "202.188.127.2", 1303, 0x5D1809C5, 0x10E828A2),
    ("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x2CC18CD5, 0x40207D3D),
    ("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739, 0x0F0C461C, 0xDDE51BBF),
    (
        "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
        44251,
        "fe80::200:f8ff:fe21:67cf",
        38024,
        0x4B61E985,
        0x02D1FEEF,
    ),
]
ADDRESSES = HashType.IPV4 | HashType.IPV6
PORTS = HashType.TCPV4 | HashType.TCPV6 | HashType.UDPV4 | HashType.UDPV6


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector[0])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_verification_suite(vector: tuple[str, int, str, int, int, int], protocol: str) -> None:
    """Each row of the verification suite comes out, with and without ports."""
    source, source_port, destination, destination_port, without_ports, with_ports = vector
    flow = Flow(
        ip_address(source), ip_address(destination), protocol, source_port, destination_port
    )

    assert without_ports == toeplitz(KEY, hash_input(flow, ADDRESSES) or b"")
    assert with_ports == toeplitz(KEY, hash_input(flow, ADDRESSES | PORTS) or b"")


A, B = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")
A6, B6 = IPv6Address("fd00::1"), IPv6Address("fd00::2")


@pytest.mark.parametrize(
    ("flow", "types", "length"),
    [
        (Flow(A, B, "tcp", 1, 2), HashType.TCPV4, 12),
        (Flow(A, B, "tcp", 1, 2), HashType.UDPV4, None),
        (Flow(A, B, "tcp", 1, 2), HashType.UDPV4 | HashType.IPV4, 8),
        (Flow(A, B, "udp", 1, 2), HashType.UDPV4 | HashType.IPV4, 12),
        (Flow(A, B, "udp", 1, 2, fragment=True), HashType.UDPV4 | HashType.IPV4, 8),
        (Flow(A, B, "udp", 1, 2, fragment=True), HashType.UDPV4, None),
        (Flow(A, B, "icmp"), HashType.IPV4 | HashType.TCPV4, 8),
        (Flow(A, B, "icmp"), HashType.TCPV4 | HashType.IPV6, None),
        (Flow(A6, B6, "tcp", 1, 2), HashType.TCPV6, 36),
        (Flow(A6, B6, "tcp", 1, 2), HashType.TCPV4 | HashType.IPV6, 32),
        (Flow(A6, B6, "udp", 1, 2), HashType.UDPV6 | HashType.IPV6, 36),
        (Flow(A6, B6, "udp", 1, 2), HashType.IPV4, None),
    ],
)
def test_what_is_hashed(flow: Flow, types: HashType, length: int | None) -> None:
    """Ports are hashed if their bit is set, else addresses if theirs is, else nothing."""
    data = hash_input(flow, types)

    assert length == (None if data is None else len(data))


def test_nothing_to_hash_goes_to_the_default_queue() -> None:
    """A flow that no hash type covers goes to the default queue."""
    assert queue_for(Flow(A, B, "icmp"), KEY, (1, 2), HashType.TCPV4, 7) == 7


def test_empty_table_goes_to_the_default_queue() -> None:
    """A table that is not in use cannot be divided by."""
    assert queue_for(Flow(A, B), KEY, (), HashType.IPV4, 7) == 7


def test_families_do_not_mix() -> None:
    """A flow from IPv4 to IPv6 does not exist."""
    with pytest.raises(ValueError, match="one family"):
        hash_input(Flow(A, B6), ADDRESSES)


def test_short_key_is_an_error() -> None:
    """A key that ends before the last window is refused."""
    with pytest.raises(ValueError, match="too short"):
        toeplitz(KEY[:39], bytes(36))


@pytest.fixture(scope="module")
def program() -> Iterator[OwnedFds]:
    """Load QEMU's own program, once."""
    with bpf.load_object(probe(QEMU).objects["rss"].data) as fds:
        yield fds


def frame_of(flow: Flow) -> bytes:
    """Return an Ethernet frame of *flow*."""
    number = {"tcp": 6, "udp": 17}.get(flow.protocol, 253)
    ports = struct.pack("!HH", flow.source_port, flow.destination_port)
    payload = ports + bytes(28)
    if flow.source.version == 4:
        offset = 0x2000 if flow.fragment else 0
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, offset, 64, number, 0)
        kind = 0x0800
    else:
        head = struct.pack("!IHBB", 6 << 28, len(payload), number, 64)
        kind = 0x86DD
    addresses = flow.source.packed + flow.destination.packed
    return bytes(12) + struct.pack("!H", kind) + head + addresses + payload


PORT_NUMBERS = st.integers(0, 0xFFFF)
PROTOCOLS = st.sampled_from(["tcp", "udp", "other"])
PORT_FIELDS = {"source_port": PORT_NUMBERS, "destination_port": PORT_NUMBERS}
FLOWS = st.one_of(
    st.builds(
        Flow,
        st.ip_addresses(v=4),
        st.ip_addresses(v=4),
        PROTOCOLS,
        **PORT_FIELDS,
        fragment=st.booleans(),
    ),
    st.builds(Flow, st.ip_addresses(v=6), st.ip_addresses(v=6), PROTOCOLS, **PORT_FIELDS),
)


@pytest.mark.kernel
@pytest.mark.qemu
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    flow=FLOWS,
    wanted=st.builds(
        bpf.Wanted,
        types=st.integers(0, 63),
        key=st.binary(min_size=40, max_size=40),
        table=st.integers(1, 128).map(lambda length: tuple(range(1000, 1000 + length))),
        default=st.integers(0, 255),
    ),
)
def test_program_and_prediction_agree(program: OwnedFds, flow: Flow, wanted: bpf.Wanted) -> None:
    """QEMU's program, run in the kernel, chooses the queue that we predict."""
    bpf.write_maps(program, wanted)
    types = HashType(wanted.types)

    assert queue_for(flow, wanted.key, wanted.table, types, wanted.default) == bpf.run_program(
        program[0].borrow(), frame_of(flow)
    )


@pytest.mark.kernel
@pytest.mark.qemu
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector[0])
def test_verification_suite_in_the_program(
    program: OwnedFds, vector: tuple[str, int, str, int, int, int]
) -> None:
    """QEMU's program finds the hash of each row: its remainders by coprime lengths say which."""
    source, source_port, destination, destination_port, _, expected = vector
    flow = Flow(ip_address(source), ip_address(destination), "tcp", source_port, destination_port)
    for length in (128, 127, 125, 123, 121):
        table = tuple(range(length))
        bpf.write_maps(program, bpf.Wanted(int(PORTS), KEY, table))

        assert expected % length == bpf.run_program(program[0].borrow(), frame_of(flow))
