# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ask for three taps on the bridge br-vlan, in VLANs 10, 10 and 20, and see which reach which.

    python3 vlans.py

It prints a JSON object: "reached", the places of the taps that heard what the first one sent, and
"refused", what is said of a VLAN that the policy does not have.
"""

import json
import os
import socket
import sys
import time
from typing import Final

sys.path.insert(0, "/srv/bpferry/shared")

from bpferry_wire import channel
from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import ErrorReply, Tap, TapReply
from bpferry_wire.packets import decode_reply, encode_request

SOCKET: Final = "/run/bpferry/tap.sock"
VLANS: Final = (10, 10, 20)
FORBIDDEN: Final = 30
EXPERIMENT: Final = b"\x88\xb5"
"""The protocol of the frame (IEEE 802)."""

VNET_HEADER: Final = bytes(10)
"""struct virtio_net_hdr of linux/virtio_net.h, with nothing to offload."""


def card(place: int) -> bytes:
    """Return the address of the card number *place*."""
    return bytes((0x52, 0x54, 0, 0, 0, place))


def ask(vlan: int, place: int) -> tuple[TapReply | ErrorReply, OwnedFds]:
    """Ask for the tap number *place* in *vlan*; return the answer and the fds."""
    return ask_for(Tap("br-vlan", is_network=False, queues=1, mac=card(place), vlan=vlan))


def ask_for(request: Tap) -> tuple[TapReply | ErrorReply, OwnedFds]:
    """Ask for the tap of *request*; return the answer and the fds."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(SOCKET)
        channel.send(sock, encode_request(request))
        packet = channel.receive(sock)
    reply = decode_reply(packet.data, request)
    assert isinstance(reply, TapReply | ErrorReply), reply
    return reply, packet.fds


def hears(queue: int) -> bool:
    """Say whether the frame of the test came to *queue*."""
    os.set_blocking(queue, False)
    while True:
        try:
            if os.read(queue, 4096)[len(VNET_HEADER) :][12:14] == EXPERIMENT:
                return True
        except BlockingIOError:
            return False


def main() -> None:
    """Ask, send one broadcast from the first tap, and print what came of it."""
    taps = [ask(vlan, place) for place, vlan in enumerate(VLANS, start=1)]
    refused, _ = ask(FORBIDDEN, 9)
    queues = [fds[0].borrow() for _, fds in taps if len(fds)]
    time.sleep(1)
    frame = b"\xff" * 6 + card(1) + EXPERIMENT + bytes(46)
    os.write(queues[0], VNET_HEADER + frame)
    time.sleep(1)
    print(  # noqa: T201 - read by the test
        json.dumps(
            {
                "reached": [place for place, queue in enumerate(queues) if hears(queue)],
                "refused": refused.message if isinstance(refused, ErrorReply) else "",
            }
        )
    )


if __name__ == "__main__":
    main()
