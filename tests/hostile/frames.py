# SPDX-License-Identifier: LGPL-2.1-or-later
"""Frames as a guest may make them, octet by octet."""

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from tests.support.tuns import VNET_HEADER

ARP: Final = 0x0806
IPV4: Final = 0x0800
IPV6: Final = 0x86DD
VLAN: Final = 0x8100
PROVIDER_VLAN: Final = 0x88A8
"""Ether types; linux/if_ether.h."""

HOP_BY_HOP: Final = 0
TCP: Final = 6
UDP: Final = 17
FRAGMENT: Final = 44
ICMPV6: Final = 58
OPTIONS: Final = 60
"""IANA's protocol numbers; the extension headers of IPv6 are among them."""

ROUTER_SOLICITATION: Final = 133
ROUTER_ADVERTISEMENT: Final = 134
SOLICITATION: Final = 135
ADVERTISEMENT: Final = 136
LISTENER_REPORT: Final = 143
"""Types of ICMPv6 messages; RFC 4861 and 3810."""

ALL_NODES: Final = "ff02::1"
BROADCAST: Final = "ff:ff:ff:ff:ff:ff"
SMALLEST: Final = 60
"""Octets of the smallest frame, without its check sum."""


def octets(address: str) -> bytes:
    """Return a MAC *address* as it is in a frame."""
    return bytes.fromhex(address.replace(":", ""))


def ethernet(source: str, kind: int, payload: bytes, destination: str = BROADCAST) -> bytes:
    """Return a frame with the header that a tap wants in front."""
    head = octets(destination) + octets(source) + kind.to_bytes(2, "big")
    return VNET_HEADER + (head + payload).ljust(SMALLEST, b"\0")


def tagged(data: bytes, kind: int = VLAN) -> bytes:
    """Return the frame *data* with a tag of VLAN 1 in it."""
    at = len(VNET_HEADER) + 12
    return data[:at] + struct.pack(">HH", kind, 1) + data[at:]


def arp(source: str, sender: tuple[str, str], target: str, *, is_reply: bool = False) -> bytes:
    """Return ARP about *target* from *source*; *sender* is the pair of addresses inside."""
    mac, address = sender
    body = struct.pack(
        ">HHBBH6s4s6s4s", 1, IPV4, 6, 4, 2 if is_reply else 1,
        octets(mac), IPv4Address(address).packed, bytes(6), IPv4Address(target).packed,
    )  # fmt: skip
    return ethernet(source, ARP, body)


def ipv4(source: str, sender: str, protocol: int = UDP, payload: bytes = bytes(8)) -> bytes:
    """Return a broadcast of IPv4 from *sender*."""
    start = struct.pack(">BBHHHBB", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol)
    end = IPv4Address(sender).packed + b"\xff" * 4
    check = checksum(start + end).to_bytes(2, "big")
    return ethernet(source, IPV4, start + check + end + payload)


def ipv6(source: str, sender: str, protocol: int, payload: bytes) -> bytes:
    """Return IPv6 from *sender* to all nodes; *protocol* is what follows its header."""
    head = struct.pack(
        ">IHBB16s16s", 6 << 28, len(payload), protocol, 255,
        IPv6Address(sender).packed, IPv6Address(ALL_NODES).packed,
    )  # fmt: skip
    return ethernet(source, IPV6, head + payload, "33:33:00:00:00:01")


def udp(source: int, destination: int) -> bytes:
    """Return a datagram without a check sum."""
    return struct.pack(">HHHH", source, destination, 8, 0)


def icmpv6(sender: str, kind: int, target: str = "::") -> bytes:
    """Return a message of this *kind* to all nodes; in neighbour discovery it is about *target*."""
    body = struct.pack(">I16s", 0, IPv6Address(target).packed)
    pseudo = IPv6Address(sender).packed + IPv6Address(ALL_NODES).packed
    summed = pseudo + struct.pack(">II", 4 + len(body), ICMPV6) + bytes([kind, 0]) + body
    return struct.pack(">BBH", kind, 0, checksum(summed)) + body


def checksum(data: bytes) -> int:
    """Return the Internet check sum of *data* (RFC 1071), which has an even length."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    return 0xFFFF - int(total) % 0xFFFF


def extension(protocol: int, payload: bytes) -> bytes:
    """Return *payload*, a message of *protocol*, behind an empty header of options."""
    return struct.pack(">BBBB4x", protocol, 0, 1, 4) + payload


def fragment(protocol: int, payload: bytes) -> bytes:
    """Return *payload* as the first fragment of a longer message of *protocol*."""
    return struct.pack(">BBHI", protocol, 0, 1, 7) + payload
