# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ask the helper of the host for a tap."""

import socket
from typing import Final

from bpferry_wire import channel
from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import ErrorReply, Tap, TapReply
from bpferry_wire.packets import decode_reply, encode_request

SOCKET: Final = "/run/bpferry/tap.sock"

VNET_HEADER: Final = bytes(10)
"""struct virtio_net_hdr of linux/virtio_net.h, with nothing to offload."""


def ask_for(request: Tap) -> tuple[TapReply | ErrorReply, OwnedFds]:
    """Ask for the tap of *request*; return the answer and the fds."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(SOCKET)
        channel.send(sock, encode_request(request))
        packet = channel.receive(sock)
    reply = decode_reply(packet.data, request)
    assert isinstance(reply, TapReply | ErrorReply), reply
    return reply, packet.fds
