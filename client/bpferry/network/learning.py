# SPDX-License-Identifier: LGPL-2.1-or-later
"""How many addresses a bridge may learn, as rtnetlink says; sysfs does not have it.

Whoever may send from any address can make the bridge learn one with each frame.
"""

import socket
import struct
from typing import Final

from bpferry.network.links import attributes, read_link

LINKINFO: Final = 18
INFO_DATA: Final = 2
FDB_MAX_LEARNED: Final = 49
"""IFLA_LINKINFO, IFLA_INFO_DATA and IFLA_BR_FDB_MAX_LEARNED of linux/if_link.h."""

COUNT: Final = struct.Struct("=I")


def find_learning_limit(bridge: str) -> int | None:
    """Return how many addresses *bridge* may learn, 0 for any number.

    None if that cannot be told: the kernel is older than Linux 6.7, or *bridge* is no bridge here.
    """
    try:
        found = read_link(socket.if_nametoindex(bridge))
        for kind in (LINKINFO, INFO_DATA):
            found = dict(attributes(found.get(kind, b"")))
        limit: int = COUNT.unpack(found[FDB_MAX_LEARNED])[0]
    except (OSError, ValueError, KeyError, struct.error):
        return None
    return limit
