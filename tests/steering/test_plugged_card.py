# SPDX-License-Identifier: LGPL-2.1-or-later
"""A card that is plugged into a running guest, with its tap and its set from both real helpers."""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from guest.build import CACHE, build_guest
from guest.console import Console
from guest.flows import make_flows
from guest.netns import Namespace, bridged
from steering_demo.counts import agree, counters, until_quiet
from steering_demo.helpers import activated_helpers
from steering_demo.play import explaining
from steering_demo.rounds import PACKETS, send
from steering_demo.stations import FIRST, HOST, MTU, QUEUES, routes
from steering_demo.vm import WITHOUT_A_CARD, Vm, client, running_vm
from steering_demo.workplace import BRIDGE, HELPER_UIDS, Workplace, workplace
from tests.steering.asking import grants_of, ports_of, watched
from tests.support.census import fd_targets, wait_until
from tests.support.marks import WITH_A_GUEST
from tests.support.old_qemu import old_qemu

pytestmark = [*WITH_A_GUEST, pytest.mark.usefixtures("nothing_left")]

FLOWS: Final = 200

PATIENCE_S: Final = 60.0

ATTACH: Final = (
    "attach-nic", FIRST.name, "--bridge", BRIDGE, "--queues", str(QUEUES), "--rss",
)  # fmt: skip


@contextmanager
def _guest(place: Workplace, text: str = WITHOUT_A_CARD) -> Iterator[tuple[Namespace, Vm]]:
    """Run a guest without a card, on a host with a bridge and both helpers."""
    with (
        bridged(BRIDGE, [HOST.ipv4, HOST.ipv6], MTU) as space,
        explaining(place),
        activated_helpers(place, space),
        running_vm(place, space, build_guest(CACHE, print), FIRST, text) as machine,
    ):
        machine.console.wait_until_ready()
        yield space, machine


def _ask(place: Workplace, space: Namespace, *words: str) -> dict[str, Any]:
    """Return what the user's bpferry answers."""
    done = subprocess.run(
        client(place, space, [*words, "--json"]), check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answered: dict[str, Any] = json.loads(done.stdout)
    return answered


def _has_card(console: Console) -> bool:
    return bool(console.ask("hello")["device"])


def _set_up(console: Console) -> None:
    """Bring the guest's card up, with all of its queues, once it is there."""
    assert wait_until(lambda: _has_card(console), PATIENCE_S)
    console.ask("address", ipv4=FIRST.ipv4, ipv6=FIRST.ipv6)
    console.ask("channels", count=QUEUES)
    console.ask("equal", queues=QUEUES)


def _left(place: Workplace, space: Namespace, machine: Vm) -> tuple[object, ...]:
    """Return the fds of QEMU and of its supervisor by kind, the taps, and the helpers' grants."""
    fds = [
        Counter(re.sub(r":\[\d+\]$", "", target) for target in fd_targets(pid).elements())
        for pid in (machine.qemu_pid(), machine.process.pid)
    ]
    return fds, ports_of(space), {role: grants_of(place, role) for role in HELPER_UIDS}


def _count(place: Workplace, space: Namespace, console: Console, seed: int) -> None:
    """Send flows to the guest: what steering counts has to be what the guest counts."""
    with watched(place, space) as counts:
        next(counts)
        before = counters(console)
        send(space, make_flows(FLOWS, routes(HOST, FIRST), seed))
        counted = until_quiet(counts, FLOWS * PACKETS)
        after = counters(console)
    arrived = {queue: after[queue] - before[queue] for queue in after}

    assert sum(arrived.values()) >= FLOWS * PACKETS
    assert min(arrived[queue] for queue in range(QUEUES)) > 0
    assert agree(arrived, counted), (arrived, counted)


def _is_steered(place: Workplace, space: Namespace) -> bool:
    (card,) = _ask(place, space, "steering", FIRST.name)["cards"]
    rss = card["rss"]
    return bool(rss and rss["on"] and set(rss["table"]) == set(range(QUEUES)))


def test_plugged_card_is_steered_as_the_guest_counts_and_leaves_nothing() -> None:
    """Twice. Each time a new tap and a new set, steered by eBPF; then QEMU has what it had."""
    with workplace() as place, _guest(place) as (space, machine):
        console = machine.console
        assert not _has_card(console)
        before = _left(place, space, machine)

        for number in range(2):
            card = _ask(place, space, *ATTACH, "--require-ebpf")
            assert "ebpf" == card["steering"]
            _set_up(console)
            assert dict.fromkeys(HELPER_UIDS, 1) == _left(place, space, machine)[2]
            assert wait_until(lambda: _is_steered(place, space), PATIENCE_S)
            _count(place, space, console, seed=number)
            detach = ("detach-nic", FIRST.name, card["id"], "--timeout", str(int(PATIENCE_S)))
            assert card["id"] == _ask(place, space, *detach)["id"]
            assert not _has_card(console)
            assert wait_until(lambda: _left(place, space, machine) == before), (
                before,
                _left(place, space, machine),
            )
        console.ask("poweroff")
        machine.wait()


def test_what_steering_asks_does_not_end_qemu_11_1() -> None:
    """It has a command about virtio that ends it; its queues are counted all the same."""
    with workplace() as place:
        qemu = old_qemu(place.folder, "11.1.3")
        with _guest(place, f'qemu = "{qemu}"\n{WITHOUT_A_CARD}') as (space, machine):
            _ask(place, space, *ATTACH)
            _set_up(machine.console)
            _count(place, space, machine.console, seed=3)
            machine.console.ask("poweroff")
            machine.wait()
