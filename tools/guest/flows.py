# SPDX-License-Identifier: LGPL-2.1-or-later
"""Flows of packets to the guest: choose them, send them, find them again in the guest's record.

A TCP flow is a connection that is begun and given up at once, which is one SYN for each packet; a
UDP flow is datagrams from one port. No flow needs a listener in the guest. Sending has to happen in
the tap's network namespace, so this is also a program, which reads its flows from standard input:

    python3 -m guest.flows --packets 1 < flows.json
"""

import argparse
import json
import random
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, cast

from guest.command import GuestError
from guest.console import Answer, Console

PORTS = range(10_000, 60_000)
PAYLOAD = b"a datagram of the bpferry guest tools"

BURST = 8
"""Packets between two pauses."""

PAUSE_SECONDS = 0.002
"""A guest without KVM takes some thousand packets a second; a queue of the tap holds 500."""


@dataclass(frozen=True, slots=True, order=True)
class Flow:
    """One direction of one conversation; addresses as inet_ntop(3) writes them."""

    family: Literal[4, 6]
    protocol: Literal["tcp", "udp"]
    source: str
    source_port: int
    destination: str
    destination_port: int


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


def send_flows(flows: Sequence[Flow], packets: int = 1) -> None:
    """Send *packets* packets of each flow, all flows in turn, slowly enough for the guest."""
    for number, flow in enumerate(list(flows) * packets):
        send_packet(flow)
        if number % BURST == BURST - 1:
            time.sleep(PAUSE_SECONDS)


def send_packet(flow: Flow) -> None:
    """Send one packet of *flow*."""
    family = socket.AF_INET if flow.family == 4 else socket.AF_INET6  # noqa: PLR2004 - IPv4
    kind = socket.SOCK_STREAM if flow.protocol == "tcp" else socket.SOCK_DGRAM
    target = (flow.destination, flow.destination_port)
    with socket.socket(family, kind) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sender.settimeout(0)
        sender.bind((flow.source, flow.source_port))
        if flow.protocol == "udp":
            sender.sendto(PAYLOAD, target)
        else:
            # Closing takes back the connection, but not the SYN, which is on its way.
            sender.connect_ex(target)


def sending_command(packets: int = 1) -> list[str]:
    """Return the command that sends the flows which it finds, as dump_flows() wrote them."""
    tools = Path(__file__).resolve().parent.parent
    program = [sys.executable, "-B", "-m", "guest.flows"]
    return ["env", f"PYTHONPATH={tools}", *program, "--packets", str(packets)]


def dump_flows(flows: Iterable[Flow]) -> str:
    """Return *flows* as text for the command that sends them."""
    return json.dumps([asdict(flow) for flow in flows])


def load_flows(text: str) -> list[Flow]:
    """Return the flows that dump_flows() wrote."""
    return [Flow(**record) for record in json.loads(text)]


def gather_flows(console: Console, packets: int, timeout: float = 30.0) -> dict[Flow, Queues]:
    """Return what the guest saw of TCP and UDP, once that is *packets* packets.

    Raises:
        GuestError: Fewer came within *timeout* seconds, or some came that could not be recorded.
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
    """Give each TCP and UDP flow in the agent's *answer*, with its packets by queue."""
    names = [field.name for field in fields(Flow)]
    for record in cast("list[dict[str, object]]", answer["flows"]):
        if record["protocol"] in {"tcp", "udp"}:
            queues = cast("dict[str, int]", record["queues"])
            flow = Flow(**{name: record[name] for name in names})  # type: ignore[arg-type]
            yield flow, {int(queue): count for queue, count in queues.items()}


def main() -> None:
    """Send the flows that standard input names."""
    parser = argparse.ArgumentParser(prog="guest.flows", description=main.__doc__)
    parser.add_argument(
        "--packets", metavar="N", type=int, default=1, help="packets of each flow (default: 1)"
    )
    options = parser.parse_args()
    send_flows(load_flows(sys.stdin.read()), options.packets)


if __name__ == "__main__":
    main()
