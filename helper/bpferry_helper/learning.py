# SPDX-License-Identifier: LGPL-2.1-or-later
"""For ``check-policy``: how many addresses a bridge may learn.

A user who may send from any address can fill the bridge's table, and with it the kernel's memory.
Nothing but netlink tells the limit; one message is not worth pyroute2, which root may lack.
"""

import socket
import struct
from typing import Final

from bpferry_helper.attributes import IFINFOMSG, IFLA_INFO_DATA, IFLA_LINKINFO, attributes

RTM_GETLINK: Final = 18
NLM_F_REQUEST: Final = 0x1
HEADER: Final = struct.Struct("=IHHII")
"""struct nlmsghdr of linux/netlink.h."""

HEADERS_BYTES: Final = HEADER.size + IFINFOMSG.size
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
    message = HEADER.pack(HEADERS_BYTES, RTM_GETLINK, NLM_F_REQUEST, 1, 0)
    message += IFINFOMSG.pack(0, index, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(PATIENCE_S)
        sock.bind((0, 0))
        sock.send(message)
        return sock.recv(ANSWER_BYTES)[HEADERS_BYTES:]
