# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program that says to QEMU that it is a GPU, and draws nothing.

It speaks as much of vhost-user (docs/interop/vhost-user.rst in QEMU) as QEMU needs to make the
device. It is run as a program by its path, with the option that vhost-user-gpu has.
"""

import socket
import struct
import sys

HEADER = struct.Struct("=III")
"""Request, flags, size of what follows."""

GET_FEATURES = 1
VERSION_1 = 1 << 32
IS_REPLY = 0x5


def serve(sock: socket.socket) -> None:
    """Answer what QEMU asks until it hangs up."""
    while header := sock.recv(HEADER.size, socket.MSG_WAITALL):
        request, _, size = HEADER.unpack(header)
        sock.recv(size, socket.MSG_WAITALL)
        if request == GET_FEATURES:
            sock.sendall(HEADER.pack(request, IS_REPLY, 8) + struct.pack("=Q", VERSION_1))


if __name__ == "__main__":
    (option,) = sys.argv[1:]
    with socket.socket(fileno=int(option.removeprefix("--fd="))) as inherited:
        serve(inherited)
