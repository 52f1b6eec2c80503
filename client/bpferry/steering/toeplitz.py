# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which queue a flow goes to: the Toeplitz hash of RSS, and QEMU's rules for what is hashed.

The hash of some bytes is the exclusive or of one 32 bit window of the key for each bit that is
set: bit 0 (the highest of the first byte) takes key bits 0 to 31, bit 1 takes 1 to 32, and so on.

What is hashed, all in network order (tools/ebpf/rss.bpf.c; virtio 1.3, 5.1.6.5.6.4):

    TCP or UDP, its bit set, no fragment     source, destination, source port, destination port
    else, the bit of the address family set  source, destination
    else                                     nothing: the default queue

IPv6 extension headers that change addresses (the three _EX bits) are not modelled: no flow that is
described by its addresses and ports has them.
"""

from enum import IntFlag
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from msgspec import Struct

KEY_BYTES: Final = 40
"""The key of virtio-net (VIRTIO_NET_RSS_MAX_KEY_SIZE), enough for IPv6 with ports: 36 bytes."""

WINDOW_BITS: Final = 32


class HashType(IntFlag):
    """What a hash may be made from: VIRTIO_NET_RSS_HASH_TYPE_* (linux/virtio_net.h)."""

    IPV4 = 1 << 0
    TCPV4 = 1 << 1
    UDPV4 = 1 << 2
    IPV6 = 1 << 3
    TCPV6 = 1 << 4
    UDPV6 = 1 << 5
    IP_EX = 1 << 6
    TCP_EX = 1 << 7
    UDP_EX = 1 << 8


PORT_TYPES: Final = {
    ("tcp", 4): HashType.TCPV4,
    ("udp", 4): HashType.UDPV4,
    ("tcp", 6): HashType.TCPV6,
    ("udp", 6): HashType.UDPV6,
}
ADDRESS_TYPES: Final = {4: HashType.IPV4, 6: HashType.IPV6}


class Flow(Struct, frozen=True):
    """One direction of a connection, as the card receives it."""

    source: IPv4Address | IPv6Address
    destination: IPv4Address | IPv6Address
    protocol: str = ""
    """``tcp`` and ``udp`` have ports; every other word means a protocol without ports."""
    source_port: int = 0
    destination_port: int = 0
    fragment: bool = False


def toeplitz(key: bytes, data: bytes) -> int:
    """Return the 32 bit Toeplitz hash of *data*.

    Raises:
        ValueError: the key is shorter than the data and one window.
    """
    surplus_bits = 8 * (len(key) - len(data)) - WINDOW_BITS
    if surplus_bits < 0:
        raise ValueError(f"a key of {len(key)} bytes is too short for {len(data)} bytes")
    window_source = int.from_bytes(key)
    bits = int.from_bytes(data)
    result = 0
    # From the last bit of the data to the first; its window ends surplus_bits + 1 before the key.
    for position in range(8 * len(data)):
        if bits >> position & 1:
            result ^= window_source >> (surplus_bits + position + 1)
    return result & 0xFFFF_FFFF


def hash_input(flow: Flow, types: HashType) -> bytes | None:
    """Return the bytes of *flow* that are hashed with *types* on; None if nothing is hashed."""
    version = flow.source.version
    if flow.destination.version != version:
        raise ValueError("the two addresses of a flow have to be of one family")
    addresses = flow.source.packed + flow.destination.packed
    with_ports = PORT_TYPES.get((flow.protocol, version))
    if with_ports is not None and with_ports in types and not flow.fragment:
        ports = flow.source_port.to_bytes(2) + flow.destination_port.to_bytes(2)
        return addresses + ports
    if ADDRESS_TYPES[version] in types:
        return addresses
    return None


def queue_for(flow: Flow, key: bytes, table: tuple[int, ...], types: HashType, default: int) -> int:
    """Return the queue that *flow* goes to; *table* is the indirection table in use."""
    data = hash_input(flow, types)
    if data is None or not table:
        return default
    return table[toeplitz(key, data) % len(table)]
