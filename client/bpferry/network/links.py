# SPDX-License-Identifier: LGPL-2.1-or-later
"""One network interface, as rtnetlink describes it to everybody (rtnetlink(7), linux/if_link.h).

nlmsghdr   u32 length, u16 type, u16 flags, u32 sequence, u32 port
ifinfomsg  u8 family, u8, u16 type, i32 interface, u32 flags, u32 change
rtattr...  u16 length, u16 type, value; each begins at a multiple of 4 bytes
"""

import socket
import struct
from collections.abc import Iterator
from typing import Final

HEADER: Final = struct.Struct("=IHHII")
ATTRIBUTE: Final = struct.Struct("=HH")
TYPE_MASK: Final = 0x3FFF
"""NLA_TYPE_MASK of linux/netlink.h: the rest of the type are flags, such as that it is nested."""

MAX_BYTES: Final = 1 << 16
SECONDS: Final = 2.0

LINK: Final = struct.Struct("=BxHiII")
RTM_NEWLINK: Final = 16
RTM_GETLINK: Final = 18
NLM_F_REQUEST: Final = 1


def read_link(index: int) -> dict[int, bytes]:
    """Return the attributes of the interface with the number *index*, by their types (IFLA_*).

    Raises:
        OSError: the kernel does not say, such as of an interface that is gone.
        struct.error: what it says is no such message.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(SECONDS)
        body = LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0)
        size = HEADER.size + len(body)
        sock.send(HEADER.pack(size, RTM_GETLINK, NLM_F_REQUEST, 1, 0) + body)
        packet = sock.recv(MAX_BYTES)
    size, kind, *_ = HEADER.unpack_from(packet)
    if kind != RTM_NEWLINK:
        raise OSError("the kernel does not say")
    return dict(attributes(packet[HEADER.size + LINK.size : size]))


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of each attribute in *data*."""
    while len(data) >= ATTRIBUTE.size:
        size, kind = ATTRIBUTE.unpack_from(data)
        if size < ATTRIBUTE.size:
            return
        yield kind & TYPE_MASK, data[ATTRIBUTE.size : size]
        data = data[aligned(size) :]


def aligned(size: int) -> int:
    """Return where the next message or attribute begins, after one of *size* bytes."""
    return (size + 3) & ~3
