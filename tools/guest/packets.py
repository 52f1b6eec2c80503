# SPDX-License-Identifier: LGPL-2.1-or-later
"""Record, in the guest, on which receive queue every packet arrived.

Linux does not tell a packet socket the queue of a packet, but the socket's filter can read it. So
there is one packet socket per queue, with a filter that accepts IPv4 and IPv6 packets addressed to
this machine that arrived on that queue. A filter sees the packet's queue mapping, which for a
received packet is the queue's number plus one (skb_record_rx_queue, include/linux/skbuff.h).

Neighbour discovery (ICMPv6 133 to 137) is left out: both systems send that by themselves.
"""

import array
import errno
import socket
import struct
from collections.abc import Iterator

ETH_P_ALL = 0x0003  # include/uapi/linux/if_ether.h, as the next three
ETH_P_IP = 0x0800
ETH_P_IPV6 = 0x86DD
ETH_P_LOOPBACK = 0x9000
SO_ATTACH_FILTER = 26  # include/uapi/asm-generic/socket.h, as the next
SO_RCVBUFFORCE = 33
SOL_PACKET = 263  # include/linux/socket.h
PACKET_STATISTICS = 6  # include/uapi/linux/if_packet.h
PACKET_HOST = 0

# include/uapi/linux/bpf_common.h and filter.h
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ANCILLARY = 0xFFFFF000
PROTOCOL, PACKET_TYPE, QUEUE = ANCILLARY + 0, ANCILLARY + 4, ANCILLARY + 24

KEPT_BYTES = 256
"""How much of a packet is read: all headers, including some IPv6 extensions."""

BUFFER_BYTES = 16 << 20
"""Per queue: some thousand small packets, which take about 2 KiB each with a virtio card."""

ICMPV6 = 58
NEIGHBOUR_DISCOVERY = range(133, 138)
IPV6_EXTENSIONS = (0, 43, 60)
IPV6_FRAGMENT = 44
NAMES = {6: "tcp", 17: "udp"}

Ends = tuple[int, str, str, int, str, int]
"""Family (4 or 6), protocol, source, its port, destination, its port.

The protocol is "tcp", "udp", or a number as text. Without ports, as in fragments, they are 0.
"""


class Recorder:
    """One packet socket per receive queue of a network device, and what they saw."""

    def __init__(self, device: str, queues: int) -> None:
        self._device = device
        self.sockets = [open_socket(device, queue) for queue in range(queues)]
        self._seen: dict[Ends, dict[int, int]] = {}
        self._lost = 0

    def drain(self) -> None:
        """Read all packets from the sockets."""
        for queue, source in enumerate(self.sockets):
            for packet in waiting(source):
                self._note(packet, queue)
            # Reading these figures resets them.
            figures = source.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
            self._lost += struct.unpack("II", figures)[1]

    def listen(self, *, on: bool) -> None:
        """Record what arrives from now on, or let it pass, which is much quicker."""
        # A socket has to be for some protocol: one that nobody sends here.
        for source in self.sockets:
            source.bind((self._device, ETH_P_ALL if on else ETH_P_LOOPBACK))

    def take(self) -> tuple[dict[Ends, dict[int, int]], int]:
        """Return packets by flow and queue, and how many packets were lost; reset both."""
        taken = (self._seen, self._lost)
        self._seen, self._lost = {}, 0
        return taken

    def _note(self, packet: bytes, queue: int) -> None:
        ends = parse(packet)
        if ends is not None:
            counts = self._seen.setdefault(ends, {})
            counts[queue] = counts.get(queue, 0) + 1


def open_socket(device: str, queue: int) -> socket.socket:
    """Return a packet socket that sees what arrives on *queue* of *device*."""
    # With protocol 0 nothing is received before bind, and so nothing before the filter is set.
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    program = array.array("B", queue_filter(queue))
    address, size = program.buffer_info()
    opened.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", size // 8, address))
    opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    opened.settimeout(0)
    opened.bind((device, ETH_P_ALL))
    return opened


def waiting(source: socket.socket) -> Iterator[bytes]:
    """Yield the packets that *source* has, each cut off."""
    while True:
        try:
            yield source.recv(KEPT_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            # Said once when the device goes down, as it does when it is taken out of the guest.
            if error.errno != errno.ENETDOWN:
                raise


def queue_filter(queue: int) -> bytes:
    """Return classic BPF that accepts IP packets to this machine that arrived on *queue*."""
    program = [
        (LOAD, 0, 0, PACKET_TYPE),
        (JUMP_IF_EQUAL, 0, 6, PACKET_HOST),
        (LOAD, 0, 0, PROTOCOL),
        (JUMP_IF_EQUAL, 1, 0, ETH_P_IP),
        (JUMP_IF_EQUAL, 0, 3, ETH_P_IPV6),
        (LOAD, 0, 0, QUEUE),
        (JUMP_IF_EQUAL, 0, 1, queue + 1),
        (RETURN, 0, 0, KEPT_BYTES),
        (RETURN, 0, 0, 0),
    ]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


def parse(packet: bytes) -> Ends | None:
    """Return the ends of an IP packet; None if it is incomplete or not part of a flow."""
    try:
        return parse_ipv4(packet) if packet[0] >> 4 == 4 else parse_ipv6(packet)  # noqa: PLR2004
    except (IndexError, struct.error):
        return None


def parse_ipv4(packet: bytes) -> Ends:
    """Return the ends of an IPv4 packet."""
    protocol = packet[9]
    source, destination = (socket.inet_ntop(socket.AF_INET, packet[at : at + 4]) for at in (12, 16))
    # More fragments follow, or this is not the first one.
    is_fragment = bool(struct.unpack_from("!H", packet, 6)[0] & 0x3FFF)
    source_port, port = ports(packet, (packet[0] & 0x0F) * 4, 0 if is_fragment else protocol)
    return 4, NAMES.get(protocol, str(protocol)), source, source_port, destination, port


def parse_ipv6(packet: bytes) -> Ends | None:
    """Return the ends of an IPv6 packet, looking past extension headers."""
    source, destination = (
        socket.inet_ntop(socket.AF_INET6, packet[at : at + 16]) for at in (8, 24)
    )
    protocol, at, is_fragment = packet[6], 40, False
    while protocol in IPV6_EXTENSIONS or protocol == IPV6_FRAGMENT:
        is_fragment = is_fragment or protocol == IPV6_FRAGMENT
        length = 8 if protocol == IPV6_FRAGMENT else (packet[at + 1] + 1) * 8
        protocol, at = packet[at], at + length
    if protocol == ICMPV6 and packet[at] in NEIGHBOUR_DISCOVERY:
        return None
    source_port, port = ports(packet, at, 0 if is_fragment else protocol)
    return 6, NAMES.get(protocol, str(protocol)), source, source_port, destination, port


def ports(packet: bytes, at: int, protocol: int) -> tuple[int, int]:
    """Return the ports of the TCP or UDP header at *at*; zeros for another protocol."""
    if protocol not in NAMES:
        return 0, 0
    first, second = struct.unpack_from("!HH", packet, at)
    return first, second
