# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measure what a packet to a VM costs without vhost and with it; this runs in the host, as root.

    received.py USER PROGRAM STEERED ROUNDS

Two VMs of USER get as many packets as they take, in turn, in each of ROUNDS rounds. PROGRAM sends
them (send.c of tools/bench). STEERED is that of both VMs' lanes, and the document of each is
/srv/KEY.xml, where KEY is that of its lane. Prints one JSON object; by KEY, it has a look of each
round, and the packets by queue, as the guest counts them.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

# What is installed knows nothing of the tests.
sys.path.append("/srv/bpferry")

from benchmarks.path_guest_figures import Lane
from benchmarks.path_look import Receiver, Sender, look
from benchmarks.path_turns import ready
from steering_demo.counts import counters
from steering_demo.vm import started_vm
from steering_demo.witness import live_maps, wait_for
from tests.vm.inside.steered import HERE, as_user

SECONDS: Final = 4.0
"""Of each look."""

FLOOD: Final = 0
"""As many packets as it takes."""

PAUSE_US: Final = 2000
"""A sender that looked as often as on a real processor would take most of this one."""


@contextmanager
def started(user: str, lane: Lane, folder: Path) -> Iterator[Receiver]:
    """Start the VM of *lane*, wait until its guest gets packets on all queues, and end it."""
    said = folder / f"{lane.key}.said"
    try:
        with started_vm(as_user(user, "bpferry", "run", f"/srv/{lane.key}.xml"), said) as vm:
            receiver = ready(lane, vm)
            pin(receiver)
            if lane.rss:
                wait_until_steered(receiver)
            receiver.console.ask("record", on=False)
            yield receiver
    finally:
        sys.stderr.write(said.read_text())


def pin(receiver: Receiver) -> None:
    """Let the bridge know for good where *receiver* is: a guest that says nothing is forgotten."""
    card = receiver.lane.card.hex(":")
    words = ["bridge", "fdb", "replace", card, "dev", receiver.tap, "master", "static"]
    subprocess.run(words, check=True)


def wait_until_steered(receiver: Receiver) -> None:
    """Wait until the program steers by a table with all queues."""
    with live_maps(receiver.machine.qemu_pid()) as maps:
        queues = receiver.lane.queues
        wait_for(maps, "an even table", lambda s: s.redirect and s.queues == queues)


def take_turns(sender: Sender, receivers: list[Receiver], rounds: int) -> dict[str, object]:
    """Look at each of *receivers* in each round, and return what was seen of each."""
    # What runs for the first time is translated by the emulator of this host.
    for receiver in receivers:
        look(sender, receiver, FLOOD, SECONDS)
    looks = [[look(sender, each, FLOOD, SECONDS) for each in receivers] for _ in range(rounds)]
    return {
        receiver.lane.key: {"looks": own, "queues": counters(receiver.console)}
        for receiver, own in zip(receivers, zip(*looks, strict=True), strict=True)
    }


def main(user: str, program: str, steered: str, rounds: str) -> None:
    """Do it, and print what was seen."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        lanes = [Lane(steered), Lane(steered, vhost=True)]
        receivers = [stack.enter_context(started(user, lane, folder)) for lane in lanes]
        sender = Sender(Path(program), "br0", HERE, folder, PAUSE_US)
        seen = take_turns(sender, receivers, int(rounds))
    print(json.dumps(seen))  # noqa: T201 - the output


if __name__ == "__main__":
    main(*sys.argv[1:])
