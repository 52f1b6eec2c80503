# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real guests on a bridge, through both helpers: every single flow comes in where we predict."""

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from bpferry.steering.settling import QUIET_SECONDS
from guest.build import CACHE, Guest, build_guest
from guest.flows import Queues, Route, gather_flows, make_flows
from guest.netns import Namespace, bridged
from guest.sending import Flow
from steering_demo.counts import agree, counters, until_quiet
from steering_demo.helpers import activated_helpers
from steering_demo.play import even_table, explaining, field
from steering_demo.rounds import PACKETS, Sender, find_mismatches, predict, send
from steering_demo.stations import FIRST, HOST, MTU, SECOND, routes
from steering_demo.vm import Vm, client, running_vm
from steering_demo.witness import live_maps
from steering_demo.workplace import BRIDGE, HELPER_UIDS, Workplace, workplace
from tests.steering.asking import grants_of, ports_of, watched
from tests.support.census import wait_until
from tests.support.people import ROOT, connect

REPOSITORY = Path(__file__).resolve().parents[2]
FLOWS = 400
ROUTES = [Route("10.0.0.1", "10.0.0.2"), Route("fd00::1", "fd00::2")]

MANY_FLOWS: Final = 20_000
"""More than can be sent until the helpers have been killed and started again."""

IDLE_SECONDS: Final = 5

STEP: Final = 50
"""Flows that are sent before a sender looks up."""


def _demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    trees = ("tools", "client", "helper", "shared")
    path = ":".join(str(REPOSITORY / tree) for tree in trees)
    return subprocess.run(
        [sys.executable, "-B", "-m", "steering_demo", *arguments],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=290,
    )


boots_guests = [
    pytest.mark.privileged,
    pytest.mark.kernel,
    pytest.mark.qemu,
    pytest.mark.guest,
    pytest.mark.slow,
    pytest.mark.usefixtures("nothing_left"),
]


def _marked(function: Callable[[], None]) -> Callable[[], None]:
    for mark in boots_guests:
        function = mark(function)
    return function


@_marked
def test_every_flow_comes_in_on_its_predicted_queue() -> None:
    """Of 400 flows in each round, from the host and from the other guest, none comes in elsewhere.

    And all reach each other over IPv4 and IPv6, with frames of nearly 9,000 bytes too.
    """
    done = _demo("--json", "--flows", str(FLOWS))

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["steering"] == "ebpf"
    assert [mismatch for played in result["rounds"] for mismatch in played["mismatches"]] == []
    assert [sum(played["counted"]) for played in result["rounds"]] == [FLOWS] * 3
    assert all(played["program_runs"] >= FLOWS * PACKETS for played in result["rounds"])
    even, changed, from_guest = (played["counted"] for played in result["rounds"])
    assert all(even)
    assert [changed[1], changed[2]] == [0, 0]
    assert all(from_guest)
    assert [exchange for exchange in result["exchanges"] if not exchange["came_back"]] == []
    assert {100, 8900} == {exchange["size"] for exchange in result["exchanges"]}
    assert len(result["exchanges"]) == 16


def _helper(place: Workplace, role: str) -> int:
    """Return the process of the helper, which listens with a backlog of its own: listen(2)."""
    with connect(place.socket(role), ROOT) as sock:
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    (listener, _, _) = struct.unpack("iII", credentials)
    return int(listener)


def _is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _guest() -> Guest:
    return build_guest(CACHE, print)


@_marked
def test_no_packet_is_lost_when_both_helpers_are_killed_and_started_again() -> None:
    """Nothing of a running VM hangs on a helper; a new one knows which grants are alive.

    While the host and the other guest send, both helpers are killed, and others take their places.
    Each packet comes in all the same, where it was predicted: not even one in flight is lost. When
    the VMs end, their taps leave the bridge, although the process that made them has long ended.
    """
    with workplace() as place, field(place, _guest(), print) as played:
        console = played.first.console
        with live_maps(played.first.qemu_pid()) as maps:
            steering = even_table(played.first, maps)
        from_host = make_flows(MANY_FLOWS, routes(HOST, FIRST), seed=11)
        from_guest = make_flows(MANY_FLOWS, routes(SECOND, FIRST), seed=12)
        killed = {role: _helper(place, role) for role in HELPER_UIDS}
        console.ask("flows")
        enough = threading.Event()

        with ThreadPoolExecutor(max_workers=2) as senders:
            sending = [
                senders.submit(_send_until, enough, played.space, from_host),
                senders.submit(_send_until, enough, played.second.console, from_guest),
            ]
            try:
                seen = dict(gather_flows(console, STEP * PACKETS))
                for pid in killed.values():
                    os.kill(pid, signal.SIGKILL)
                assert wait_until(lambda: not any(map(_is_alive, killed.values())))
                grants = {role: grants_of(place, role) for role in HELPER_UIDS}
            finally:
                enough.set()
        sent = [flow for sender in sending for flow in sender.result()]
        early = sum(sum(queues.values()) for queues in seen.values())
        later = gather_flows(console, len(sent) * PACKETS - early)

        assert killed.keys() == {role for role in killed if _helper(place, role) != killed[role]}
        assert {"bpf": 2, "tap": 2} == grants
        assert {HOST.ipv4, SECOND.ipv4} == {
            f"{flow.source}/24" for flow in later if flow.family == 4
        }
        assert [] == find_mismatches(predict(steering, sent), _added(seen, later))
        assert len(ports_of(played.space)) == 2
        for machine in (played.first, played.second):
            machine.console.ask("poweroff")
            machine.wait()
        assert wait_until(lambda: not ports_of(played.space)), ports_of(played.space)


@_marked
def test_what_steering_counts_is_what_the_guest_counted() -> None:
    """And each flow comes in on the queue that ``--predict`` named; then nobody is woken up.

    The user who started the VM asks, without a privilege, and the guest is not asked.
    """
    with workplace() as place, _lone_guest(place) as (space, machine):
        console = machine.console
        with live_maps(machine.qemu_pid()) as maps:
            even_table(machine, maps)
        flows = make_flows(FLOWS, routes(HOST, FIRST), seed=31)
        predicted = {flow: _ask_prediction(place, space, flow) for flow in flows[:8]}

        with watched(place, space) as counts:
            next(counts)
            before = counters(console)
            console.ask("flows")
            send(space, flows)
            counted = until_quiet(counts, FLOWS * PACKETS)
            after = counters(console)
        seen = gather_flows(console, FLOWS * PACKETS)

        arrived = {queue: after[queue] - before[queue] for queue in after}
        assert sum(arrived.values()) >= FLOWS * PACKETS
        assert agree(arrived, counted), (arrived, counted)
        assert {flow: {queue: PACKETS} for flow, queue in predicted.items()} == {
            flow: seen[flow] for flow in predicted
        }
        time.sleep(QUIET_SECONDS + 2)
        assert 0 == _wake_ups_in(IDLE_SECONDS, machine.process.pid)


@_marked
def test_a_guest_that_is_not_to_record_packets_counts_them_only() -> None:
    """What a packet costs is measured so; afterwards it records them again."""
    with workplace() as place, _lone_guest(place) as (space, machine):
        console = machine.console
        flows = make_flows(STEP, routes(HOST, FIRST), seed=41)
        before = sum(counters(console).values())
        console.ask("record", on=False)
        send(space, flows)
        wait_until(lambda: sum(counters(console).values()) >= before + STEP * PACKETS)

        assert [] == console.ask("flows")["flows"]
        assert sum(counters(console).values()) >= before + STEP * PACKETS
        console.ask("record", on=True)
        send(space, flows)
        assert set(flows) == gather_flows(console, STEP * PACKETS).keys()


@contextmanager
def _lone_guest(place: Workplace) -> Iterator[tuple[Namespace, Vm]]:
    """Run the first guest alone, on a bridge with the host."""
    with (
        bridged(BRIDGE, [HOST.ipv4, HOST.ipv6], MTU) as space,
        explaining(place),
        activated_helpers(place, space),
        running_vm(place, space, _guest(), FIRST) as machine,
    ):
        machine.console.wait_until_ready()
        machine.console.ask("address", ipv4=FIRST.ipv4, ipv6=FIRST.ipv6)
        machine.console.ask("channels", count=FIRST.queues)
        yield space, machine


def _ask_prediction(place: Workplace, space: Namespace, flow: Flow) -> int:
    """Return the queue that ``bpferry steering --predict`` names."""
    source, to = (
        f"[{address}]:{port}" if flow.family == 6 else f"{address}:{port}"
        for address, port in (
            (flow.source, flow.source_port),
            (flow.destination, flow.destination_port),
        )
    )
    words = ["steering", FIRST.name, "--json", "--predict", f"{flow.protocol} {source} > {to}"]
    asked = subprocess.run(client(place, space, words), check=True, capture_output=True)
    return int(json.loads(asked.stdout)["cards"][0]["queue"])


def _wake_ups_in(seconds: float, pid: int) -> int:
    """Return how often the process *pid* was woken up in so many *seconds*."""
    before = _wake_ups(pid)
    time.sleep(seconds)
    return _wake_ups(pid) - before


def _wake_ups(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (count,) = re.findall(r"^voluntary_ctxt_switches:\t(\d+)$", status, re.MULTILINE)
    return int(count)


def _send_until(enough: threading.Event, sender: Sender, flows: Sequence[Flow]) -> Sequence[Flow]:
    """Send *flows* step by step, with one step more when it is *enough*; return what was sent."""
    for last in range(STEP, len(flows), STEP):
        done = enough.is_set()
        send(sender, flows[last - STEP : last])
        if done:
            return flows[:last]
    raise AssertionError("nobody said that it is enough")


def _added(*parts: dict[Flow, Queues]) -> dict[Flow, Queues]:
    """Return packets by flow and queue, of all *parts* together."""
    total: dict[Flow, dict[int, int]] = {}
    for flow, queues in (item for part in parts for item in part.items()):
        counts = total.setdefault(flow, {})
        for queue, count in queues.items():
            counts[queue] = counts.get(queue, 0) + count
    return dict(total)


def _prediction() -> dict[Flow, int]:
    return {flow: number % 4 for number, flow in enumerate(make_flows(8, ROUTES))}


def test_a_flow_on_another_queue_is_a_mismatch() -> None:
    """One packet of one flow that comes in elsewhere is told, with that flow's name."""
    predicted = _prediction()
    seen: dict[Flow, Queues] = {flow: {queue: PACKETS} for flow, queue in predicted.items()}
    stray = next(iter(predicted))
    seen[stray] = {predicted[stray]: PACKETS - 1, 3: 1}

    (mismatch,) = find_mismatches(predicted, seen)

    assert str(stray.source_port) in mismatch


def test_a_flow_that_never_came_in_is_a_mismatch() -> None:
    """A flow that the guest has not seen is not a success."""
    predicted = _prediction()
    seen: dict[Flow, Queues] = {
        flow: {queue: PACKETS} for flow, queue in list(predicted.items())[1:]
    }

    assert len(find_mismatches(predicted, seen)) == 1
