# SPDX-License-Identifier: LGPL-2.1-or-later
"""Count flows to a card on both sides, take it out, plug in another, and so on; runs in the host.

    plugged.py USER DOCUMENT NAME QUEUES

This runs as root. DOCUMENT is that of USER's VM NAME, which has one card at its start. The guest
gets the addresses 10.85.0.4 and fd85::4; the bridge br0 has those that end in 1. Prints one JSON
object, with what was seen of each card, and of what was left when it was out.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

from qemu.qmp.legacy import QEMUMonitorProtocol

# What is installed knows nothing of the tests.
sys.path.append("/srv/bpferry")

from guest.console import Console
from guest.flows import Route, make_flows
from steering_demo.counts import WATCH, counters, until_quiet, watched
from steering_demo.rounds import PACKETS, send
from steering_demo.vm import Vm
from steering_demo.witness import counted_runs, live_maps, program_runs, wait_for
from tests.support.census import alive_among, fd_targets, held_by, wait_until
from tests.vm.inside.steered import (
    FLOWS,
    GOODBYE_SECONDS,
    HELLO_SECONDS,
    HERE,
    as_user,
    running,
    tap_queues,
    vhost_fds,
    vhost_turns,
)

BRIDGE: Final = "br0"
ROUTES: Final = (Route("10.85.0.1", "10.85.0.4"), Route("fd85::1", "fd85::4"))

PLUGGED: Final = 2
"""How many cards come after the one from the start."""

PATIENCE_S: Final = 300
"""For what takes a guest a second elsewhere."""


class Player:
    """Plays with the cards of the VM called *name*, one after the other."""

    def __init__(self, user: str, name: str, machine: Vm, queues: int) -> None:
        self._queues = queues
        self._user = user
        self._name = name
        self._machine = machine
        self._console = machine.console
        self._pid = machine.qemu_pid()

    def plug(self) -> dict[str, Any]:
        """Plug a card in, and return what bpferry says of it."""
        options = ("--bridge", BRIDGE, "--queues", str(self._queues), "--rss", "--require-ebpf")
        card = self._ask("attach-nic", *options)
        assert wait_until(self._has_card, PATIENCE_S, pause_s=1), "the guest does not see the card"
        return card

    def card(self) -> dict[str, Any]:
        """Return what bpferry says of the card that the VM has."""
        (card,) = self._ask("status")["cards"]
        assert isinstance(card, dict)
        return card

    def play(self, card: dict[str, Any], seed: int) -> dict[str, Any]:
        """Return what was seen of *card*, which is in, until it was out."""
        self._set_up()
        held = held_by(self._pid)
        seen = {"card": card, "vhost_fds": vhost_fds(self._pid), "taps": tap_queues(self._pid)}
        turns = vhost_turns(self._pid)
        with counted_runs():
            runs = program_runs(self._pid)
            seen |= self._count(seed)
            seen["program_runs"] = program_runs(self._pid) - runs
        seen["vhost_turns"] = vhost_turns(self._pid) - turns
        self._ask("detach-nic", card["id"], "--timeout", str(PATIENCE_S))
        # The kernel frees maps some moments after their last fd.
        wait_until(lambda: not alive_among(held), PATIENCE_S, pause_s=0.5)
        return seen | {"held": len(held), "left": self._left() | {"sets": len(alive_among(held))}}

    def _set_up(self) -> None:
        """Bring the guest's card up, with a table that has all of its queues."""
        ipv4, ipv6 = (route.destination for route in ROUTES)
        self._console.ask("address", ipv4=f"{ipv4}/24", ipv6=f"{ipv6}/64")
        self._console.ask("channels", count=self._queues)
        with live_maps(self._pid) as maps:
            self._console.ask("equal", queues=self._queues)
            wait_for(maps, "an even table", lambda s: s.redirect and s.queues == self._queues)

    def _count(self, seed: int) -> dict[str, Any]:
        """Send flows, and return packets by queue as both sides have counted them."""
        argv = as_user(self._user, "bpferry", "steering", self._name, *WATCH)
        with watched(argv) as counts:
            # From its first line on, it counts without a gap.
            next(counts)
            before = counters(self._console)
            send(HERE, make_flows(FLOWS, ROUTES, seed))
            counted = until_quiet(counts, FLOWS * PACKETS)
            after = counters(self._console)
        guest = {queue: after[queue] - before[queue] for queue in after}
        return {"sent": FLOWS * PACKETS, "counted": counted, "guest": guest}

    def _left(self) -> dict[str, Any]:
        """Return what there is of cards: in the guest, in QEMU, in bpferry, and on the host."""
        pids = {"qemu": self._pid, "bpferry": self._machine.process.pid}
        ports = subprocess.run(
            ["ip", "-json", "link", "show", "master", BRIDGE], check=True, capture_output=True
        )
        return {
            "card": self._has_card(),
            "ports": [link for link in json.loads(ports.stdout or "[]") if link],
            "fds": {name: fds_by_kind(pid) for name, pid in pids.items()},
            "objects": self._objects(),
        }

    def _objects(self) -> dict[str, object]:
        """Return what QEMU's own monitor shows: objects and devices by name, and all netdevs."""
        (path,) = Path("/tmp").glob(f"bpferry-*/bpferry/{self._name}/qmp.sock")
        with QEMUMonitorProtocol(str(path)) as monitor:
            monitor.connect()
            return {
                "objects": names(monitor, "/objects"),
                "devices": names(monitor, "/machine/peripheral"),
                "netdevs": monitor.cmd("human-monitor-command", **{"command-line": "info network"}),
            }

    def _has_card(self) -> bool:
        return bool(self._console.ask("hello")["device"])

    def _ask(self, command: str, *words: str) -> dict[str, Any]:
        argv = as_user(self._user, "bpferry", command, self._name, *words, "--json")
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        answered: dict[str, Any] = json.loads(done.stdout)
        return answered


def names(monitor: QEMUMonitorProtocol, place: str) -> list[str]:
    """Return the names of what QEMU has in this *place*, which it tells in any order."""
    listed = monitor.cmd("qom-list", path=place)
    assert isinstance(listed, list)
    return sorted(entry["name"] for entry in listed)


def fds_by_kind(pid: int) -> dict[str, int]:
    """Return how many fds of which kind the process *pid* has open."""
    return dict(Counter(re.sub(r":\[\d+\]$", "", target) for target in fd_targets(pid).elements()))


def main(user: str, document: str, name: str, queues: str) -> None:
    """Do it, and print what was seen."""
    with tempfile.TemporaryFile("w+") as said:
        try:
            with running(user, document, said) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                machine = Vm(Console(process.stdout, process.stdin), process)
                machine.console.wait_until_ready(HELLO_SECONDS)
                player = Player(user, name, machine, int(queues))
                rounds = [player.play(player.card(), 0)]
                rounds += [player.play(player.plug(), 1 + seed) for seed in range(PLUGGED)]
                machine.console.ask("poweroff")
                status = process.wait(GOODBYE_SECONDS)
        finally:
            said.seek(0)
            text = said.read()
            sys.stderr.write(text)
    print(json.dumps({"rounds": rounds, "status": status, "said": text}))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
