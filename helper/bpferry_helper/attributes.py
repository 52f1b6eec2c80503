# SPDX-License-Identifier: LGPL-2.1-or-later
"""How messages of rtnetlink about links and addresses are laid out, if read without pyroute2."""

import struct
from collections.abc import Iterator
from typing import Final

IFINFOMSG: Final = struct.Struct("=BxxxiII")
"""struct ifinfomsg of linux/rtnetlink.h: family, index, flags, which flags to change."""

IFADDRMSG: Final = struct.Struct("=xxxBI")
"""struct ifaddrmsg of linux/if_addr.h: scope, index of the link."""

ATTRIBUTE: Final = struct.Struct("=HH")
TYPE_MASK: Final = 0x3FFF
"""struct nlattr of linux/netlink.h: its length with this header, and its type with two flags."""

IFLA_LINKINFO: Final = 18
IFLA_INFO_DATA: Final = 2
"""linux/if_link.h: what is special to the kind of a link."""


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of each attribute in *data*."""
    at = 0
    while at + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, at)
        if length < ATTRIBUTE.size:
            return
        yield kind & TYPE_MASK, data[at + ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
