# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM moves to another host through a real ssh, with taps and eBPF sets of both hosts' helpers."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from bpferry.steering.maps import Steering
from guest import echo
from guest.build import CACHE, build_guest
from guest.console import Console
from guest.flows import gather_flows, make_flows
from steering_demo.counts import counters
from steering_demo.rounds import PACKETS, find_mismatches, predict, send
from steering_demo.stations import FIRST, HOST, routes
from steering_demo.vm import Vm, client, running_vm
from steering_demo.witness import counted_runs, live_maps, program_runs, wait_for
from tests.steering import traffic
from tests.steering.two_hosts import PATIENCE_S, URL, Host, two_hosts
from tests.support.census import wait_until
from tests.support.marks import WITH_A_GUEST

pytestmark = [
    *WITH_A_GUEST,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("nothing_left"),
]

BOOT_SECONDS: Final = 240.0
"""It takes ten, and much longer on a host that is busy with other guests."""

FLOWS: Final = 200

WEIGHTS: Final = (4, 1, 1, 2)
"""Of the four queues; no guest has them by itself."""

ENOUGH: Final = 100
"""Datagrams that come back before the move, and after it."""

MOST_LOST: Final = 6_000
"""Two minutes of them: a busy host takes its time, and QEMU stands still for part of it."""


class Traffic:
    """Datagrams from a host to the guest and back, while it runs."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        """Borrow the process of ``traffic``."""
        self._process = process
        self.answered: set[int] = set()
        self._sent = 0
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("sent"):
                self._sent = int(line.split()[1])
            else:
                self.answered.add(int(line))

    def await_more(self, count: int) -> None:
        """Wait until *count* more have come back."""
        wanted = len(self.answered) + count
        assert wait_until(lambda: len(self.answered) >= wanted, PATIENCE_S), len(self.answered)

    def end(self) -> int:
        """End it; return how many were lost."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._reader.join()
        return self._sent - len(self.answered)


@contextmanager
def _traffic(host: Host) -> Iterator[Traffic]:
    address, _ = FIRST.addresses
    script = host.ssh / "traffic.py"
    script.write_text(Path(traffic.__file__).read_text())
    argv = host.space.command([sys.executable, "-B", str(script), address, str(echo.PORT)])
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Traffic(process)
        finally:
            process.kill()


@contextmanager
def _telling_why(host: Host, machine: Vm) -> Iterator[None]:
    """If nothing comes back, tell what the neighbour table and the guest know of it."""
    try:
        yield
    except AssertionError as error:
        error.add_note(host.space.run(["ip", "neighbour"]))
        error.add_note(f"the guest's counters: {counters(machine.console)}")
        error.add_note(f"of the card: {_card(host)}")
        raise


@contextmanager
def _console(host: Host) -> Iterator[Console]:
    """Be at the guest's console at *host*."""
    argv = client(host.place, host.space, ["console", FIRST.name])
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Console(process.stdout, process.stdin)
        finally:
            process.kill()


def _card(host: Host) -> dict[str, Any]:
    (card,) = host.asked("steering", FIRST.name)["cards"]
    found: dict[str, Any] = card
    return found


def _set_up(machine: Vm) -> Steering:
    """Let the guest have its addresses and WEIGHTS; return what the kernel's maps then say."""
    console = machine.console
    console.wait_until_ready(BOOT_SECONDS)
    console.ask("address", ipv4=FIRST.ipv4, ipv6=FIRST.ipv6)
    console.ask("channels", count=FIRST.queues)
    table = console.ask("weights", weights=list(WEIGHTS))["table"]
    with live_maps(machine.qemu_pid()) as maps:
        return wait_for(maps, "the weights", lambda now: list(now.table) == table)


def _check_steering(here: Host, there: Host, steering: Steering) -> None:
    """Fail unless *there* steers each flow as the guest did *here* before it moved."""
    qemu = there.qemu()
    with live_maps(qemu) as maps:
        assert steering == wait_for(maps, "the same as here", lambda now: now == steering)
    card = _card(there)
    assert ("ebpf", True, []) == (card["steering"], card["in_force"], card["warnings"])
    assert (steering.key.hex(), list(steering.table)) == (card["rss"]["key"], card["rss"]["table"])
    flows = make_flows(FLOWS, routes(HOST, FIRST), seed=41)
    with _console(there) as console, counted_runs():
        console.ask("flows")
        counted, runs = counters(console), program_runs(qemu)
        send(here.space, flows)
        seen = gather_flows(console, FLOWS * PACKETS)
        arrived = Counter(counters(console))
        arrived.subtract(counted)
        assert program_runs(qemu) - runs >= FLOWS * PACKETS
    assert [] == find_mismatches(predict(steering, flows), seen)
    assert all(arrived[queue] > 0 for queue in range(FIRST.queues)), arrived


def test_a_vm_under_traffic_moves_and_its_queues_are_steered_by_ebpf_there() -> None:
    """As its guest has set them, by another set. Here, nothing is left, and ``list`` says so."""
    guest = build_guest(CACHE, print)
    with two_hosts() as (here, there):
        before = here.held(), there.held()
        with running_vm(here.place, here.space, guest, FIRST) as machine:
            steering = _set_up(machine)
            assert {"bpf": 1, "tap": 1} == here.held()[1]
            with _traffic(here) as datagrams:
                with _telling_why(here, machine):
                    datagrams.await_more(ENOUGH)
                told = here.asked("migrate", FIRST.name, URL)
                datagrams.await_more(ENOUGH)
                lost = datagrams.end()
            still = told["downtime_ms"]
            print(f"lost {lost} datagrams; the guest stood still for {still} ms")  # noqa: T201
            assert lost < MOST_LOST
            assert 0 == machine.process.wait(PATIENCE_S)

        assert wait_until(lambda: here.held() == before[0], PATIENCE_S), here.held()
        assert ({}, {FIRST.name: "running"}) == (here.vms(), there.vms())
        ports, grants, _ = there.held()
        assert {"bpf": 1, "tap": 1} == grants
        assert len(before[1][0]) + 1 == len(ports)
        _check_steering(here, there, steering)
        assert 0 == there.bpferry("stop", "--force", FIRST.name).returncode
        assert wait_until(lambda: there.held() == before[1], PATIENCE_S), there.held()
        assert {} == there.vms()
