# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the guest of tools/bench path would have asked for, and the packets that are sent to it.

The queue of each flow is worked out here, by bpferry's own model of RSS: neither the eBPF program
nor the C program that is measured says what is right.

    PLAN   key (40 bytes), table (128 times u16), number of flows (u32), and the flows
    FLOW   queue (u32), frame (128 bytes)

All in the machine's byte order (struct plan in path.h).
"""

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from bpferry.steering.maps import TABLE_ENTRIES, Steering
from bpferry.steering.toeplitz import Flow, HashType

FLOWS: Final = 256

KEY: Final = bytes.fromhex(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
)
"""Microsoft's, of the verification suite for RSS."""

HEAD: Final = struct.Struct(f"=40s{TABLE_ENTRIES}HI")
FRAME_BYTES: Final = 128
MARK: Final = 0x62706621
"""In front of a flow's number, at the end of its frames."""

ETHERNET: Final = struct.Struct("!6s6sH")
IPV4: Final = struct.Struct("!BBHHHBBH4s4s")
IPV6: Final = struct.Struct("!IHBB16s16s")
UDP: Final = struct.Struct("!HHHH")
ETHERTYPES: Final = {4: 0x0800, 6: 0x86DD}
UDP_PROTOCOL: Final = 17
HOPS: Final = 64
SENDER: Final = bytes.fromhex("525400000001")
HOSTS: Final[dict[int, tuple[IPv4Address, IPv4Address] | tuple[IPv6Address, IPv6Address]]] = {
    4: (IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")),
    6: (IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")),
}
PORT: Final = 5201
FIRST_PORT: Final = 20000


def steering(queues: int) -> Steering:
    """Return a table that names *queues* queues in turn, as a guest's driver sets it up first."""
    return Steering(
        redirect=True,
        hash_types=HashType.UDPV4 | HashType.UDPV6,
        key=KEY,
        table=tuple(entry % queues for entry in range(TABLE_ENTRIES)),
        default_queue=0,
    )


def flows(family: int) -> list[Flow]:
    """Return the flows of *family* (4 or 6), all from one host to one other."""
    source, destination = HOSTS[family]
    ports = range(FIRST_PORT, FIRST_PORT + FLOWS)
    return [Flow(source, destination, "udp", port, PORT) for port in ports]


def plan(queues: int, family: int, card: bytes) -> bytes:
    """Return PLAN for *queues* queues: all flows of *family*, to the address *card*."""
    asked = steering(queues)
    head = HEAD.pack(asked.key, *asked.table, FLOWS)
    return head + b"".join(
        struct.pack("=I", asked.queue_for(flow)) + frame(flow, number, card)
        for number, flow in enumerate(flows(family))
    )


def frame(flow: Flow, number: int, card: bytes) -> bytes:
    """Return the frame of *flow*, which has *number*, to *card*. Nobody looks at its checksums."""
    version = flow.source.version
    header = ETHERNET.pack(card, SENDER, ETHERTYPES[version])
    ip = IPV4 if version == 4 else IPV6  # noqa: PLR2004 - the family
    udp_bytes = FRAME_BYTES - ETHERNET.size - ip.size
    ends = (flow.source.packed, flow.destination.packed)
    if ip is IPV4:
        header += ip.pack(0x45, 0, ip.size + udp_bytes, 0, 0, HOPS, UDP_PROTOCOL, 0, *ends)
    else:
        header += ip.pack(6 << 28, udp_bytes, UDP_PROTOCOL, HOPS, *ends)
    header += UDP.pack(flow.source_port, flow.destination_port, udp_bytes, 0)
    mark = struct.pack("=II", MARK, number)
    return header + bytes(FRAME_BYTES - len(header) - len(mark)) + mark
