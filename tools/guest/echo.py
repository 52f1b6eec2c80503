# SPDX-License-Identifier: LGPL-2.1-or-later
"""Send a datagram and get it back; on the host and in the guest.

Such a datagram must not be fragmented in either direction: it comes back only if every network on
the way takes it in one frame. On the host this is also a program, since it has to run in the
bridge's network namespace; it fails if the datagram does not come back:

    python3 -m guest.echo ADDRESS BYTES
"""

import os
import socket
import sys
from contextlib import suppress

PORT = 7
"""The echo protocol's (RFC 862)."""

SECONDS = 10.0
"""How long a datagram may take. A guest without KVM may be busy."""

MOST_BYTES = 65_535

MTU_DISCOVER = {
    socket.AF_INET: (socket.IPPROTO_IP, 10),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 23),
}
"""IP_MTU_DISCOVER and IPV6_MTU_DISCOVER, include/uapi/linux/in.h and in6.h."""

PMTUDISC_DO = 2
"""Always "don't fragment"."""


def open_unfragmented(family: socket.AddressFamily) -> socket.socket:
    """Return a UDP socket whose datagrams must not be fragmented."""
    opened = socket.socket(family, socket.SOCK_DGRAM)
    opened.setsockopt(*MTU_DISCOVER[family], PMTUDISC_DO)
    return opened


def open_echoes() -> list[socket.socket]:
    """Return the sockets that receive what is to be sent back, one per IP version."""
    sockets = []
    for family in MTU_DISCOVER:
        opened = open_unfragmented(family)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind(("", PORT))
        opened.settimeout(0)
        sockets.append(opened)
    return sockets


def send_back(source: socket.socket) -> None:
    """Send one datagram that has arrived on *source* back to its sender."""
    # If it cannot be sent, it is lost, as any datagram may be; its sender will notice.
    with suppress(OSError):
        datagram, sender = source.recvfrom(MOST_BYTES)
        source.sendto(datagram, sender)


def comes_back(address: str, size: int) -> bool:
    """Send a datagram of *size* bytes to *address* and return whether it comes back unchanged.

    Raises:
        OSError: it is too long for a frame, or there is no route to the address.
    """
    sent = os.urandom(size)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with open_unfragmented(family) as ours:
        ours.settimeout(SECONDS)
        ours.connect((address, PORT))
        ours.send(sent)
        try:
            return ours.recv(MOST_BYTES) == sent
        except TimeoutError:
            return False


if __name__ == "__main__":
    sys.exit(0 if comes_back(sys.argv[1], int(sys.argv[2])) else 1)
