# SPDX-License-Identifier: LGPL-2.1-or-later
"""For ``check-policy``: how many addresses a bridge may learn.

A user who may send from any address can fill the bridge's table, and with it the kernel's memory.
Nothing but netlink tells the limit; one message is not worth pyroute2, which root may lack.
"""

import socket
import struct
from collections.abc import Iterator
from typing import Final

RTM_GETLINK: Final = 18
NLM_F_REQUEST: Final = 0x1
HEADERS: Final = struct.Struct("=IHHIIBxHiII")
"""struct nlmsghdr of linux/netlink.h, and struct ifinfomsg of linux/rtnetlink.h."""

ATTRIBUTE: Final = struct.Struct("=HH")
TYPE_MASK: Final = 0x3FFF
"""struct nlattr of linux/netlink.h: its length with this header, and its type with two flags."""

IFLA_LINKINFO: Final = 18
IFLA_INFO_DATA: Final = 2
IFLA_BR_FDB_MAX_LEARNED: Final = 49
"""linux/if_link.h. New in Linux 6.7."""

ANSWER_BYTES: Final = 65_536
PATIENCE_S: Final = 5.0


def learning_limit(bridge: str) -> int | None:
    """Return how many addresses *bridge* may learn, 0 for any number.

    None if it is not known: the kernel is too old, or *bridge* is gone.
    """
    try:
        data = _ask(socket.if_nametoindex(bridge))
    except OSError:
        return None
    for kind in (IFLA_LINKINFO, IFLA_INFO_DATA, IFLA_BR_FDB_MAX_LEARNED):
        data = dict(attributes(data)).get(kind, b"")
    return int(struct.unpack("=I", data)[0]) if data else None


def _ask(index: int) -> bytes:
    """Return the attributes of the link *index*."""
    message = HEADERS.pack(HEADERS.size, RTM_GETLINK, NLM_F_REQUEST, 1, 0, 0, 0, index, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(PATIENCE_S)
        sock.bind((0, 0))
        sock.send(message)
        return sock.recv(ANSWER_BYTES)[HEADERS.size :]


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of each attribute in *data*."""
    at = 0
    while at + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, at)
        if length < ATTRIBUTE.size:
            return
        yield kind & TYPE_MASK, data[at + ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
