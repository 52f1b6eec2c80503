# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ask the helper something, as the user who runs this, and print its answer as one JSON object.

    ask.py hello
    ask.py load
    ask.py hold     load, and hold the fds until standard input ends

Runs inside the booted system, with its own Python. The object's digest is what the helper itself
finds in that system's QEMU.
"""

import json
import os
import socket
import sys
from pathlib import Path

CLONE = Path(__file__).parents[2]
sys.path += [str(CLONE / "shared"), str(CLONE / "helper")]

from bpferry_helper.bpf.binary import open_trusted  # noqa: E402 - the path comes first
from bpferry_helper.bpf.embedded import scan  # noqa: E402
from bpferry_wire import channel, messages, packets  # noqa: E402

QEMU = "/usr/bin/qemu-system-x86_64"
SOCKET = "/run/bpferry/bpf.sock"


def build_request(op: str) -> messages.Request:
    """Return the request for *op*."""
    if op == "hello":
        return messages.Hello()
    found = scan(open_trusted(os.path.realpath(QEMU)))
    return messages.Load("rss", found[0].digest)


def main() -> None:
    """Ask, and print."""
    request = build_request(sys.argv[1])
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        try:
            sock.connect(SOCKET)
        except OSError as error:
            print(json.dumps({"refused": type(error).__name__}))  # noqa: T201 - the output
            return
        channel.send(sock, packets.encode_request(request))
        packet = channel.receive(sock)
    with packet.fds:
        reply = packets.decode_reply(packet.data, request)
        answer = {"reply": type(reply).__name__, "fds": len(packet.fds), "text": str(reply)}
        if isinstance(reply, messages.ErrorReply):
            answer["refusal"] = f"{reply.message}: {reply.hint}"
        print(json.dumps(answer), flush=True)  # noqa: T201 - the output
        if sys.argv[1] == "hold":
            sys.stdin.read()


if __name__ == "__main__":
    main()
