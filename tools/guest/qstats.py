# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ask the guest's kernel for packets by receive queue, on Linux 6.11 and newer.

Those kernels no longer show them in ethtool -S but over generic netlink, in the family "netdev"
(Documentation/netlink/specs/netdev.yaml in Linux), whose number has to be asked for first:

    nlmsghdr: length, type, flags, sequence, port   genlmsghdr: command, version, 2 unused
    attributes: length (with these 4 bytes), type, data, padding to 4
"""

import socket
import struct
import sys
from collections.abc import Iterator

NETLINK_GENERIC = 16  # include/uapi/linux/netlink.h, as the next five
REQUEST, DUMP = 0x001, 0x300
MESSAGE_ERROR, MESSAGE_DONE = 2, 3
HEADER = struct.Struct("=IHHII")
GENERIC_BYTES = 4
RECEIVE_BYTES = 64 << 10

# include/uapi/linux/genetlink.h
CONTROLLER, GET_FAMILY, FAMILY_ID, FAMILY_NAME = 16, 3, 1, 2

# include/uapi/linux/netdev.h
QSTATS_GET = 12
IFINDEX, QUEUE_TYPE, QUEUE_ID, SCOPE, RX_PACKETS = 1, 2, 3, 4, 8
SCOPE_QUEUE = 1
QUEUE_TYPE_RX = 0

Attributes = dict[int, bytes]


def packets_by_queue(device: str) -> dict[int, int]:
    """Return how many packets arrived on each queue; empty if the kernel does not tell."""
    index = socket.if_nametoindex(device)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC) as link:
        name = attribute(FAMILY_NAME, b"netdev\0")
        family = next(iter(talk(link, CONTROLLER, GET_FAMILY, 0, name)))
        wanted = attribute(IFINDEX, number(index)) + attribute(SCOPE, number(SCOPE_QUEUE))
        answers = talk(link, value(family[FAMILY_ID]), QSTATS_GET, DUMP, wanted)
        return {
            value(answer[QUEUE_ID]): value(answer[RX_PACKETS])
            for answer in answers
            if RX_PACKETS in answer and value(answer[QUEUE_TYPE]) == QUEUE_TYPE_RX
        }


def talk(
    link: socket.socket, family: int, command: int, flags: int, data: bytes
) -> Iterator[Attributes]:
    """Send one request and yield the attributes of each answer."""
    body = struct.pack("=BBH", command, 1, 0) + data
    link.send(HEADER.pack(HEADER.size + len(body), family, REQUEST | flags, 1, 0) + body)
    while True:
        received = link.recv(RECEIVE_BYTES)
        while received:
            length, kind, *_ = HEADER.unpack_from(received)
            content, received = received[HEADER.size : length], received[aligned(length) :]
            if kind == MESSAGE_DONE:
                return
            if kind == MESSAGE_ERROR:
                raise OSError(-struct.unpack_from("=i", content)[0], "netlink refused")
            yield attributes(content[GENERIC_BYTES:])
        if not flags & DUMP:
            return


def attribute(kind: int, data: bytes) -> bytes:
    """Return one attribute with its padding."""
    plain = struct.pack("=HH", 4 + len(data), kind) + data
    return plain + bytes(-len(plain) % 4)


def attributes(data: bytes) -> Attributes:
    """Return the attributes in *data* by type."""
    found = {}
    while data:
        length, kind = struct.unpack_from("=HH", data)
        found[kind] = data[4:length]
        data = data[aligned(length) :]
    return found


def number(plain: int) -> bytes:
    """Return *plain* encoded for an attribute."""
    return struct.pack("=I", plain)


def value(data: bytes) -> int:
    """Return the number of 2, 4 or 8 bytes in an attribute."""
    return int.from_bytes(data, sys.byteorder)


def aligned(length: int) -> int:
    """Return *length* with its padding."""
    return (length + 3) & ~3
