# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which bridge an interface is a port of: from rtnetlink, and from sysfs where that does not say.

    nlmsghdr   u32 length, u16 type, u16 flags, u32 sequence, u32 port
    ifinfomsg  u8 family, u8, u16 type, i32 interface, u32 flags, u32 change
    rtattr...  u16 length, u16 type, value; each begins at a multiple of 4 bytes

sysfs may be that of another network namespace, where the name may mean another interface; so the
numbers of both have to be the same.
"""

import os
import socket
import struct
from pathlib import Path
from typing import Final

from bpferry.network.neighbours import HEADER, MAX_BYTES, SECONDS, attributes

LINK: Final = struct.Struct("=BxHiII")
RTM_NEWLINK: Final = 16
RTM_GETLINK: Final = 18
NLM_F_REQUEST: Final = 1
MASTER: Final = 10
"""IFLA_MASTER of linux/if_link.h."""
INDEX: Final = struct.Struct("=i")


def find_bridge(interface: str) -> str:
    """Return the bridge that *interface* is a port of; empty if it is none, or is not here."""
    try:
        index = socket.if_nametoindex(interface)
    except (OSError, ValueError):
        return ""
    try:
        return _ask(index)
    except (OSError, struct.error):
        return _read(interface, index)


def _ask(index: int) -> str:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(SECONDS)
        body = LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0)
        size = HEADER.size + len(body)
        sock.send(HEADER.pack(size, RTM_GETLINK, NLM_F_REQUEST, 1, 0) + body)
        packet = sock.recv(MAX_BYTES)
    size, kind, *_ = HEADER.unpack_from(packet)
    if kind != RTM_NEWLINK:
        raise OSError("the kernel does not say")
    found = dict(attributes(packet[HEADER.size + LINK.size : size]))
    master = found.get(MASTER)
    return socket.if_indextoname(INDEX.unpack(master)[0]) if master else ""


def _read(interface: str, index: int) -> str:
    folder = Path("/sys/class/net", interface)
    try:
        if int((folder / "ifindex").read_text(encoding="ascii")) != index:
            return ""
        return os.path.basename(os.readlink(folder / "master"))  # noqa: PTH115, PTH119 - text
    except (OSError, ValueError):
        return ""
