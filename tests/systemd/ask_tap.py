# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ask the helper for taps, as the user who runs this, and print each answer as a line of JSON.

    ask_tap.py hello | quota | status | list
    ask_tap.py tap BRIDGE QUEUES        a tap that goes at once
    ask_tap.py hold BRIDGE QUEUES       a tap that is held until standard input ends
    ask_tap.py create BRIDGE QUEUES
    ask_tap.py delete INTERFACE
    ask_tap.py can BRIDGE QUEUES

Runs inside the booted system, with its own Python. What each fd of a tap is, it asks the kernel.
"""

import fcntl
import json
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

CLONE = Path(__file__).parents[2]
sys.path.append(str(CLONE / "shared"))

from bpferry_wire import channel, messages, packets  # noqa: E402 - the path comes first
from bpferry_wire.fds import OwnedFds  # noqa: E402

SOCKET: Final = "/run/bpferry/tap.sock"

TUNGETIFF: Final = 0x8004_54D2
"""linux/if_tun.h"""

IFREQ: Final = struct.Struct("16s24x")
"""struct ifreq of linux/if.h, with the name."""


def build_request(words: Sequence[str]) -> messages.Request:  # noqa: PLR0911 - one for each
    """Return the request that *words* describe."""
    match words:
        case ["hello"]:
            return messages.Hello()
        case ["quota"]:
            return messages.Quota()
        case ["status"]:
            return messages.Status()
        case ["list"]:
            return messages.ListTaps()
        case ["delete", interface]:
            return messages.Delete(interface)
        case ["create", bridge, queues]:
            return messages.Create(messages.Tap(bridge, is_network=False, queues=int(queues)))
        case ["can", bridge, queues]:
            return messages.Can(messages.Tap(bridge, is_network=False, queues=int(queues)))
        case ["tap" | "hold", bridge, queues]:
            return messages.Tap(bridge, is_network=False, queues=int(queues))
    raise SystemExit(__doc__)


def describe(reply: object, fds: OwnedFds) -> dict[str, object]:
    """Return what came, as JSON knows it."""
    fields = reply._asdict() if isinstance(reply, tuple) and hasattr(reply, "_asdict") else {}
    queues = [fcntl.ioctl(fd.borrow(), TUNGETIFF, IFREQ.pack(b"")) for fd in fds]
    interfaces = [IFREQ.unpack(queue)[0].rstrip(b"\0").decode() for queue in queues]
    return {"reply": type(reply).__name__, "queues_of": interfaces, **fields}


def main(words: Sequence[str]) -> None:
    """Ask, and print."""
    request = build_request(words)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        try:
            sock.connect(SOCKET)
        except OSError as error:
            print(json.dumps({"reply": type(error).__name__}))  # noqa: T201 - the output
            return
        # Who is turned away at the door is told so, and hears no more.
        with suppress(BrokenPipeError):
            channel.send(sock, packets.encode_request(request))
        packet = channel.receive(sock)
    with packet.fds:
        reply = packets.decode_reply(packet.data, request)
        print(json.dumps(describe(reply, packet.fds)), flush=True)  # noqa: T201 - the output
        if words[0] == "hold":
            sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1:])
