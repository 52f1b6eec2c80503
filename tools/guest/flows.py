# SPDX-License-Identifier: LGPL-2.1-or-later
"""Flows of packets to a guest: choose them, send them, find them in the guest's record.

The host or another guest sends them. The host has to do that in the bridge's network namespace, so
this is also a program, which reads flows from standard input:

    python3 -m guest.flows --packets 1 < flows.json
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from guest.command import GuestError
from guest.console import Answer, Console
from guest.sending import Flow, send_flows

PORTS = range(10_000, 60_000)

AT_ONCE = 50
"""Flows per command to a guest: its serial line accepts few bytes at a time."""

SEND_SECONDS = 60.0
"""How long a guest without KVM may take for one command."""

Queues = Mapping[int, int]
"""Packets by receive queue."""


@dataclass(frozen=True, slots=True)
class Route:
    """Two addresses of one family: one that the sender has, and one that the guest has."""

    source: str
    destination: str


def make_flows(count: int, routes: Sequence[Route], seed: int = 1) -> list[Flow]:
    """Return *count* flows, TCP and UDP in turn on each of *routes*.

    The same *seed* gives the same flows. No two of them share a source port.
    """
    chance = random.Random(seed)  # noqa: S311 - to be repeatable is the point, not to be secret
    source_ports = chance.sample(PORTS, count)
    flows = []
    for number, source_port in enumerate(source_ports):
        route = routes[number // 2 % len(routes)]
        flows.append(
            Flow(
                family=6 if ":" in route.source else 4,
                protocol="udp" if number % 2 else "tcp",
                source=route.source,
                source_port=source_port,
                destination=route.destination,
                destination_port=chance.choice(PORTS),
            )
        )
    return flows


def send_from_guest(console: Console, flows: Sequence[Flow], packets: int = 1) -> None:
    """Let the guest at *console* send *packets* packets of each flow."""
    for first in range(0, len(flows), AT_ONCE):
        some = flows[first : first + AT_ONCE]
        console.ask("send", SEND_SECONDS, flows=some, packets=packets)


def sending_command(packets: int = 1) -> list[str]:
    """Return the command that sends the flows on its standard input, written by dump_flows()."""
    tools = Path(__file__).resolve().parent.parent
    program = [sys.executable, "-B", "-m", "guest.flows"]
    return ["env", f"PYTHONPATH={tools}", *program, "--packets", str(packets)]


def dump_flows(flows: Iterable[Flow]) -> str:
    """Return *flows* as text for the command that sends them."""
    return json.dumps(list(flows))


def load_flows(text: str) -> list[Flow]:
    """Return the flows that dump_flows() wrote."""
    return [Flow(*row) for row in json.loads(text)]


def gather_flows(console: Console, packets: int, timeout: float = 60.0) -> dict[Flow, Queues]:
    """Return the TCP and UDP packets that the guest saw, once there are *packets* of them.

    Raises:
        GuestError: Fewer arrived within *timeout* seconds, or some could not be recorded.
    """
    seen: dict[Flow, dict[int, int]] = {}
    deadline = time.monotonic() + timeout
    while (count := sum(sum(queues.values()) for queues in seen.values())) < packets:
        if time.monotonic() > deadline:
            raise GuestError(f"the guest saw {count} of {packets} packets in {timeout:g} seconds")
        answer = console.ask("flows")
        if answer["lost"]:
            raise GuestError(f"the guest could not record {answer['lost']} packets")
        for flow, queues in read_flows(answer):
            counts = seen.setdefault(flow, {})
            for queue, number in queues.items():
                counts[queue] = counts.get(queue, 0) + number
    return dict(seen)


def read_flows(answer: Answer) -> Iterator[tuple[Flow, Queues]]:
    """Yield each TCP and UDP flow in the agent's *answer*, with its packets by queue."""
    for record in cast("list[dict[str, object]]", answer["flows"]):
        if record["protocol"] in {"tcp", "udp"}:
            queues = cast("dict[str, int]", record["queues"])
            flow = Flow(**{name: record[name] for name in Flow._fields})  # type: ignore[arg-type]
            yield flow, {int(queue): count for queue, count in queues.items()}


def main() -> None:
    """Send the flows on standard input."""
    parser = argparse.ArgumentParser(prog="guest.flows", description=main.__doc__)
    parser.add_argument(
        "--packets", metavar="N", type=int, default=1, help="packets of each flow (default: 1)"
    )
    options = parser.parse_args()
    send_flows(load_flows(sys.stdin.read()), options.packets)


if __name__ == "__main__":
    main()
