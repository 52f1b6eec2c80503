# SPDX-License-Identifier: LGPL-2.1-or-later
"""One direction of a conversation, and how its packets are sent; on the host and in the guest.

A TCP flow is a connection that is started and dropped at once, one SYN per packet; a UDP flow is
datagrams from one port. No flow needs a listener.
"""

import socket
import time
from collections.abc import Sequence
from typing import Literal, NamedTuple

PAYLOAD = b"a datagram of the bpferry guest tools"

BURST = 8
"""Packets between two pauses."""

PAUSE_SECONDS = 0.002
"""A guest without KVM handles some thousand packets a second; a queue of the tap holds 500."""


class Flow(NamedTuple):
    """One direction of one conversation; addresses as inet_ntop(3) writes them."""

    family: Literal[4, 6]
    protocol: Literal["tcp", "udp"]
    source: str
    source_port: int
    destination: str
    destination_port: int


def send_flows(flows: Sequence[Flow], packets: int = 1) -> None:
    """Send *packets* packets of each flow, all flows in turn, slowly enough for the guest."""
    for number, flow in enumerate(list(flows) * packets):
        send_packet(flow)
        if number % BURST == BURST - 1:
            time.sleep(PAUSE_SECONDS)


def send_packet(flow: Flow) -> None:
    """Send one packet of *flow*."""
    family = socket.AF_INET if flow.family == 4 else socket.AF_INET6  # noqa: PLR2004 - IPv4
    kind = socket.SOCK_STREAM if flow.protocol == "tcp" else socket.SOCK_DGRAM
    target = (flow.destination, flow.destination_port)
    with socket.socket(family, kind) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sender.settimeout(0)
        sender.bind((flow.source, flow.source_port))
        if flow.protocol == "udp":
            sender.sendto(PAYLOAD, target)
        else:
            # Closing drops the connection, but not the SYN, which is on its way.
            sender.connect_ex(target)
