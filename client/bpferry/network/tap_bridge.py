# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which bridge an interface is a port of: from rtnetlink, and if that does not say, from sysfs."""

import os
import socket
import struct
from typing import Final

from bpferry.network.links import read_link
from bpferry.network.sysfs import find_folder

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
        return _read(interface)


def _ask(index: int) -> str:
    master = read_link(index).get(MASTER)
    return socket.if_indextoname(INDEX.unpack(master)[0]) if master else ""


def _read(interface: str) -> str:
    folder = find_folder(interface)
    try:
        # pathlib would take longer to import than all this takes.
        return os.path.basename(os.readlink(f"{folder}/master")) if folder else ""  # noqa: PTH115, PTH119
    except OSError:
        return ""
