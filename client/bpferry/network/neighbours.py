# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which addresses this host has talked to on its networks, from the kernel's neighbour table.

A dump of rtnetlink (rtnetlink(7), linux/neighbour.h), which needs no privilege:

    nlmsghdr   u32 length, u16 type, u16 flags, u32 sequence, u32 port
    ndmsg      u8 family, 3 bytes, i32 interface, u16 state, u8 flags, u8 type
    rtattr...  u16 length, u16 type, value; each begins at a multiple of 4 bytes
"""

import contextlib
import ipaddress
import socket
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from bpferry.errors import BpferryError
from bpferry.network.links import HEADER, MAX_BYTES, SECONDS, aligned, attributes

NEIGHBOUR: Final = struct.Struct("=B3xiHBB")

RTM_GETNEIGH: Final = 30
RTM_NEWNEIGH: Final = 28
NLMSG_ERROR, NLMSG_DONE = 2, 3
REQUEST_DUMP: Final = 0x301
"""NLM_F_REQUEST and NLM_F_DUMP (linux/netlink.h)."""

DST, LLADDR = 1, 2
"""NDA_DST and NDA_LLADDR."""

UNANSWERED: Final = 0x01 | 0x20
"""NUD_INCOMPLETE and NUD_FAILED: nobody has answered at such an address."""

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Neighbour(NamedTuple):
    """One address on a network of this host."""

    mac: str
    """In lower case."""
    address: IpAddress
    interface: str


def read_neighbours() -> list[Neighbour]:
    """Return all neighbours whose MAC address is known.

    Raises:
        BpferryError: the kernel does not say.
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
            sock.settimeout(SECONDS)
            body = NEIGHBOUR.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
            size = HEADER.size + len(body)
            sock.send(HEADER.pack(size, RTM_GETNEIGH, REQUEST_DUMP, 1, 0) + body)
            return list(_replies(sock))
    except OSError as error:
        message = f"cannot read the neighbour table: {error.strerror or error}"
        raise BpferryError(message) from error


def _replies(sock: socket.socket) -> Iterator[Neighbour]:
    while True:
        packet = sock.recv(MAX_BYTES)
        while len(packet) >= HEADER.size:
            size, kind, *_ = HEADER.unpack_from(packet)
            if kind in (NLMSG_DONE, NLMSG_ERROR) or size < HEADER.size:
                return
            if kind == RTM_NEWNEIGH:
                yield from _neighbour(packet[HEADER.size : size])
            packet = packet[aligned(size) :]


def _neighbour(message: bytes) -> Iterator[Neighbour]:
    _, index, state, _, _ = NEIGHBOUR.unpack_from(message)
    found = dict(attributes(message[NEIGHBOUR.size :]))
    if state & UNANSWERED or DST not in found or not found.get(LLADDR):
        return
    # An interface that was removed meanwhile has no name, and its neighbours do not matter.
    with contextlib.suppress(OSError, ValueError):
        mac, name = found[LLADDR].hex(":"), socket.if_indextoname(index)
        yield Neighbour(mac, ipaddress.ip_address(found[DST]), name)
