# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which bridge an interface is a port of: from rtnetlink, and from sysfs where that does not say.

sysfs may be that of another network namespace, where the name may mean another interface; so the
numbers of both have to be the same.
"""

import os
import socket
import struct
from typing import Final

from bpferry.network.links import read_link

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
    master = read_link(index).get(MASTER)
    return socket.if_indextoname(INDEX.unpack(master)[0]) if master else ""


def _read(interface: str, index: int) -> str:
    folder = f"/sys/class/net/{interface}"
    try:
        # pathlib would take longer to import than all this takes.
        with open(f"{folder}/ifindex", encoding="ascii") as file:  # noqa: PTH123
            if int(file.read()) != index:
                return ""
        return os.path.basename(os.readlink(f"{folder}/master"))  # noqa: PTH115, PTH119
    except (OSError, ValueError):
        return ""
