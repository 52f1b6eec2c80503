# SPDX-License-Identifier: LGPL-2.1-or-later
"""Send flows, predict the queue of each, ask the guest where it arrived."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from bpferry.steering.maps import Steering
from bpferry.steering.toeplitz import Flow as HashedFlow
from guest.console import Console
from guest.flows import Queues, dump_flows, gather_flows, send_from_guest, sending_command
from guest.netns import Namespace
from guest.sending import Flow
from steering_demo.vm import Machine
from steering_demo.witness import program_runs

PACKETS: Final = 2
"""Packets of each flow: all of them have to arrive on the same queue."""

Sender = Namespace | Console
"""The host in its namespace, or a guest."""


@dataclass(frozen=True, slots=True)
class Round:
    """What a table did with some flows."""

    title: str
    table: tuple[int, ...]
    predicted: dict[int, int]
    """Flows by queue, according to our own Toeplitz hash with the live key and table."""
    counted: dict[int, int]
    """Flows by queue, as the guest saw their packets arrive."""
    mismatches: tuple[str, ...]
    """One sentence for each flow that arrived elsewhere, or not at all."""
    program_runs: int
    """How often the kernel ran the eBPF program meanwhile: once for each packet to the guest."""

    @property
    def flows(self) -> int:
        """How many flows were sent."""
        return sum(self.predicted.values())

    @property
    def steered_by_ebpf(self) -> bool:
        """Whether the kernel ran the program for every packet of every flow."""
        return self.program_runs >= self.flows * PACKETS


def play_round(
    title: str, sender: Sender, machine: Machine, steering: Steering, flows: Sequence[Flow]
) -> Round:
    """Let *sender* send *flows* to *machine*, and compare every one with *steering*."""
    machine.console.ask("flows")
    runs = program_runs(machine.qemu_pid())
    send(sender, flows)
    seen = gather_flows(machine.console, len(flows) * PACKETS)
    predicted = predict(steering, flows)
    return Round(
        title=title,
        table=steering.table,
        predicted=dict(Counter(predicted.values())),
        counted=_count(seen),
        mismatches=tuple(find_mismatches(predicted, seen)),
        program_runs=program_runs(machine.qemu_pid()) - runs,
    )


def send(sender: Sender, flows: Sequence[Flow]) -> None:
    """Let *sender* send the packets of all *flows*."""
    if isinstance(sender, Console):
        send_from_guest(sender, flows, PACKETS)
    else:
        sender.run(sending_command(PACKETS), text=dump_flows(flows))


def predict(steering: Steering, flows: Sequence[Flow]) -> dict[Flow, int]:
    """Return the queue of each flow, by our own Toeplitz hash with the live key and table."""
    return {flow: steering.queue_for(hashed(flow)) for flow in flows}


def hashed(flow: Flow) -> HashedFlow:
    """Return *flow* as the Toeplitz hash sees it."""
    return HashedFlow(
        ip_address(flow.source),
        ip_address(flow.destination),
        flow.protocol,
        flow.source_port,
        flow.destination_port,
    )


def _count(seen: dict[Flow, Queues]) -> dict[int, int]:
    return dict(Counter(queue for queues in seen.values() for queue in queues))


def find_mismatches(predicted: dict[Flow, int], seen: dict[Flow, Queues]) -> Sequence[str]:
    """Return a sentence for each flow whose packets did not all arrive on the predicted queue."""
    return [
        f"{flow}: predicted queue {queue}, arrived on {dict(seen.get(flow, {})) or 'none'}"
        for flow, queue in predicted.items()
        if seen.get(flow) != {queue: PACKETS}
    ] + [f"{flow}: nobody sent it" for flow in seen if flow not in predicted]
