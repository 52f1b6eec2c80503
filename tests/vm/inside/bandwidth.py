# SPDX-License-Identifier: LGPL-2.1-or-later
"""Flood taps of the bridges br-free and br-limited, and see how fast what arrives.

    python3 bandwidth.py

Policy limits what taps of br-limited send. It prints a JSON object: "floods", how many bytes
arrived in how many seconds, by the kind of flood; "kernel", what tc says of the tap with both
limits; and "refused", what is said of a request over the limit.
"""

import json
import os
import subprocess
import sys
import time
from typing import Final

sys.path[:0] = ["/srv/bpferry", "/srv/bpferry/shared"]

from bpferry_wire.fds import OwnedFds  # noqa: E402 - the path comes first
from bpferry_wire.messages import Bandwidth, ErrorReply, Rate, Tap, TapReply  # noqa: E402 - as above
from tests.vm.inside.asking import VNET_HEADER, ask_for  # noqa: E402 - as above

FLOOD_S: Final = 4.0
LIMIT: Final = 100_000
"""Bytes per second; policy has the same."""

FRAME: Final = b"\xff" * 6 + bytes((0x52, 0x54, 0, 0, 0, 1)) + b"\x88\xb5" + bytes(1400)
"""A broadcast of the protocol of experiments (IEEE 802)."""


def ask(bridge: str, bandwidth: Bandwidth) -> tuple[TapReply | ErrorReply, OwnedFds]:
    """Ask for a tap on *bridge* with *bandwidth*; return the answer and the fds."""
    return ask_for(Tap(bridge, is_network=False, queues=1, bandwidth=bandwidth))


def drained(queue: int) -> int:
    """Return how many bytes of frames of the flood wait in *queue*, and read them."""
    count = 0
    while True:
        try:
            frame = os.read(queue, 4096)[len(VNET_HEADER) :]
        except BlockingIOError:
            return count
        count += len(frame) if frame == FRAME else 0


def flood(bridge: str, sender: Bandwidth, receiver: Bandwidth) -> tuple[int, float]:
    """Return how many bytes come from a tap with *sender*'s limits to another one, and how long."""
    taps = [ask(bridge, sender), ask(bridge, receiver)]
    for reply, _ in taps:
        assert isinstance(reply, TapReply), reply
    queues = [fds[0].borrow() for _, fds in taps]
    for queue in queues:
        os.set_blocking(queue, False)
    time.sleep(0.5)
    started, count = time.monotonic(), 0
    while time.monotonic() < started + FLOOD_S:
        os.write(queues[0], VNET_HEADER + FRAME)
        count += drained(queues[1])
    seconds = time.monotonic() - started
    for _, fds in taps:
        fds.close()
    return count, seconds


def shown() -> str:
    """Return what tc says of a tap with both limits, each with a peak."""
    rate = Rate(LIMIT, 2 * LIMIT, 200_000)
    reply, fds = ask("br-free", Bandwidth(rate, rate))
    assert isinstance(reply, TapReply), reply
    with fds:
        of = ("dev", reply.interface)
        commands = [("qdisc", "show", *of), ("filter", "show", *of, "ingress")]
        return "".join(
            subprocess.run(["tc", *command], capture_output=True, text=True, check=True).stdout
            for command in commands
        )


def main() -> None:
    """Flood, ask for too much, and print what came of it."""
    none, limit = Bandwidth(), Rate(LIMIT)
    floods = {
        "the control": flood("br-free", none, none),
        "inbound, as asked for": flood("br-free", none, Bandwidth(inbound=limit)),
        "outbound, as asked for": flood("br-free", Bandwidth(outbound=limit), none),
        "outbound, by policy": flood("br-limited", none, none),
        "a peak below the average": flood(
            "br-free", Bandwidth(outbound=Rate(10 * LIMIT, LIMIT)), none
        ),
    }
    refused, _ = ask("br-limited", Bandwidth(outbound=Rate(LIMIT + 1)))
    message = refused.message if isinstance(refused, ErrorReply) else ""
    print(json.dumps({"floods": floods, "kernel": shown(), "refused": message}))  # noqa: T201 - read by the test


if __name__ == "__main__":
    main()
