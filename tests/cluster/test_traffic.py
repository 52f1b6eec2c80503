# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests on two nodes talk to each other, and each node's kernel steers what comes to its guest."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from guest.console import Console
from guest.flows import Route, make_flows
from steering_demo.rounds import Round, play_round
from steering_demo.witness import counted_runs, live_maps, wait_for
from tests.cluster.jobs import LINUX, Cluster, console_of
from tests.cluster.nodes import Node
from tests.support.marks import WITH_A_GUEST

pytestmark = [*WITH_A_GUEST, pytest.mark.timeout(900)]

FLOWS: Final = 48
"""TCP and UDP, IPv4 and IPv6 in turn."""

QUEUES: Final = 2

WHOLE_NODE: Final = "--gres=bpferry_taps:2,bpferry_queues:2,bpferry_sets:1"
"""So that the second task goes to another node."""


@dataclass(frozen=True, slots=True)
class Guest:
    """A Linux guest of the user's. Borrows its console."""

    number: int
    node: Node
    console: Console

    @property
    def addresses(self) -> tuple[str, str]:
        """Its addresses, by the number of its task."""
        return f"10.85.0.{100 + self.number}", f"fd85::{100 + self.number}"

    def qemu_pid(self) -> int:
        """Return its QEMU, as this machine counts."""
        space = Path(f"/proc/{self.node.system.pid}/ns/pid").readlink()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                name = (process / "comm").read_text()
                if name.startswith("qemu-system") and (process / "ns/pid").readlink() == space:
                    found.append(int(process.name))
            except FileNotFoundError:
                continue
        (pid,) = found
        return pid


@pytest.fixture
def guests(cluster: Cluster) -> Iterator[tuple[Guest, Guest]]:
    """Let two tasks of one array run on two nodes, and return their guests when they answer."""
    job = cluster.submit(LINUX, "1-2", WHOLE_NODE)
    tasks = cluster.wait_for(job, "RUNNING", "RUNNING")
    cluster.wait_until_vms_run(tasks)
    with ExitStack() as stack:
        try:
            first, second = (
                Guest(
                    task.number, node, stack.enter_context(console_of(node, f"web-{task.number}"))
                )
                for task in tasks
                for node in [cluster.node(task.node)]
            )
            _set_up(first)
            _set_up(second)
            yield first, second
        finally:
            # Before the consoles are left, which end with their VMs.
            cluster.cancel(job)


def test_guests_of_two_nodes_are_steered_flow_by_flow(guests: tuple[Guest, Guest]) -> None:
    """Every flow arrives on the queue that the live key and table say, in both directions.

    The kernel of the receiving node ran the program for each packet.
    """
    first, second = guests
    assert first.node.name != second.node.name
    for sender, receiver in ((first, second), (second, first)):
        played = _play(sender, receiver)

        assert (FLOWS, ()) == (played.flows, played.mismatches)
        assert {0, 1} == set(played.counted)
        assert played.steered_by_ebpf


def _set_up(guest: Guest) -> None:
    """Let *guest* have its addresses, and spread what it receives."""
    ipv4, ipv6 = guest.addresses
    guest.console.ask("equal", queues=QUEUES)
    guest.console.ask("address", ipv4=f"{ipv4}/24", ipv6=f"{ipv6}/64")


def _play(sender: Guest, receiver: Guest) -> Round:
    routes = [
        Route(source, destination)
        for source, destination in zip(sender.addresses, receiver.addresses, strict=True)
    ]
    flows = make_flows(FLOWS, routes)
    assert {(4, "tcp"), (4, "udp"), (6, "tcp"), (6, "udp")} == {
        (flow.family, flow.protocol) for flow in flows
    }
    with live_maps(receiver.qemu_pid()) as maps, counted_runs():
        steering = wait_for(maps, "an even table", lambda s: s.redirect and s.queues == QUEUES)
        return play_round(receiver.node.name, sender.console, receiver, steering, flows)
