# SPDX-License-Identifier: LGPL-2.1-or-later
"""Limits how many addresses a bridge learns; ip(8) can do that only from iproute2 6.7 on."""

import socket
import struct


def set_learning_limit(bridge: str, limit: int) -> None:
    """Let *bridge*, in the network of this thread, learn *limit* addresses."""
    limits = struct.pack("=HHI", 8, 49, limit)
    data = struct.pack("=HH", 4 + len(limits), 2) + limits
    kind = struct.pack("=HH8s", 4 + 7, 1, b"bridge")
    info = struct.pack("=HH", 4 + len(kind) + len(data), 18) + kind + data
    index = socket.if_nametoindex(bridge)
    head = struct.pack("=IHHIIBxHiII", 32 + len(info), 16, 0x5, 1, 0, 0, 0, index, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.send(head + info)
        assert struct.unpack_from("=i", sock.recv(4096), 16)[0] == 0
