# SPDX-License-Identifier: LGPL-2.1-or-later
"""The play: a host with a bridge, both helpers, two guests, and what they send to each other."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from bpferry.steering.maps import Steering, SteeringMaps
from guest.build import Guest
from guest.command import GuestError
from guest.flows import make_flows
from guest.netns import Namespace, bridged
from steering_demo import helpers, vm
from steering_demo.exchanges import Exchange, play_exchanges
from steering_demo.helpers import HelperFailed, activated_helpers
from steering_demo.rounds import Round, Sender, play_round
from steering_demo.stations import FIRST, HOST, MTU, QUEUES, SECOND, Station, routes
from steering_demo.vm import Machine, Vm, running_vm
from steering_demo.witness import WitnessError, counted_runs, live_maps, wait_for
from steering_demo.workplace import BRIDGE, HELPER_UIDS, Workplace

WEIGHTS: Final = (1, 0, 0, 3)
"""What the guest changes its table to: a quarter to queue 0, the rest to queue 3."""

EVEN_TITLE: Final = f"The table of {FIRST.name} names all {QUEUES} queues equally; the host sends:"
CHANGED_TITLE: Final = f"{FIRST.name} ran 'ethtool -X eth0 weight 1 0 0 3'; the host sends:"
GUEST_TITLE: Final = f"Its table is even again; {SECOND.name} sends:"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Field:
    """Everything that the play needs. Borrows all of it."""

    place: Workplace
    space: Namespace
    started_by: str
    """What starts the helpers."""
    first: Vm
    second: Vm


@dataclass(frozen=True, slots=True)
class Result:
    """What happened, and the versions and settings."""

    rounds: tuple[Round, ...]
    exchanges: tuple[Exchange, ...]
    qemu: str
    started_by: str

    @property
    def is_good(self) -> bool:
        """Whether everything was as predicted."""
        rounds = all(played.steered_by_ebpf and not played.mismatches for played in self.rounds)
        return rounds and all(exchange.came_back for exchange in self.exchanges)


@contextmanager
def field(place: Workplace, guest: Guest, say: Say) -> Iterator[Field]:
    """Set up host, helpers and guests, and take them down."""
    say(f"making a network namespace with the bridge '{BRIDGE}', MTU {MTU}")
    with (
        bridged(BRIDGE, [HOST.ipv4, HOST.ipv6], MTU) as space,
        explaining(place),
        activated_helpers(place, space) as started_by,
    ):
        say(f"both helpers are started when somebody connects to them, by {started_by}")
        say(f"bpferry run, twice, as uid {place.user_uid}")
        with (
            running_vm(place, space, guest, FIRST) as first,
            running_vm(place, space, guest, SECOND) as second,
        ):
            for station, machine in ((FIRST, first), (SECOND, second)):
                _set_up(station, machine, say)
            yield Field(place, space, started_by, first, second)


def _set_up(station: Station, machine: Vm, say: Say) -> None:
    console = machine.console
    hello = console.wait_until_ready()
    console.ask("address", ipv4=station.ipv4, ipv6=station.ipv6)
    console.ask("channels", count=station.queues)
    say(f"{station.name} is up: Linux {hello.get('kernel')}, {hello.get('queues')} queues")


@contextmanager
def explaining(place: Workplace) -> Iterator[None]:
    """On an error, show the output of helpers and clients before the folder is deleted."""
    try:
        yield
    except (GuestError, WitnessError, HelperFailed, subprocess.CalledProcessError):
        words = {f"the helper {role}": helpers.said(place, role) for role in HELPER_UIDS}
        words |= {f"bpferry of {guest.name}": vm.said(place, guest) for guest in (FIRST, SECOND)}
        for name, text in words.items():
            print(f"--- {name} said:\n{text}", file=sys.stderr)
        raise


def play(field: Field, flows: int, show: Callable[[Round | Exchange], None]) -> Result:
    """Send, compare, exchange; *show* each result at once."""
    rounds: list[Round] = []
    exchanges: list[Exchange] = []
    for played in _rounds(field, flows):
        rounds.append(played)
        show(played)
    for exchange in play_exchanges(field.space, field.first.console, field.second.console):
        exchanges.append(exchange)
        show(exchange)
    for machine in (field.first, field.second):
        machine.console.ask("poweroff")
        machine.wait()
    version = qemu_version(field.place, field.space)
    return Result(tuple(rounds), tuple(exchanges), version, field.started_by)


def qemu_version(place: Workplace, space: Namespace) -> str:
    """Return QEMU's version; QEMU is run as the user."""
    argv = vm.client(place, space, ["capabilities", "--json"])
    asked = subprocess.run(argv, check=True, capture_output=True)
    return str(json.loads(asked.stdout)["version"])


def _rounds(field: Field, count: int) -> Iterator[Round]:
    """Play with an even table, with one that the guest has changed, and with the other guest."""
    machine = field.first

    def played(title: str, seed: int, source: Station, sender: Sender, now: Steering) -> Round:
        flows = make_flows(count, routes(source, FIRST), seed)
        return play_round(title, sender, machine, now, flows)

    with live_maps(machine.qemu_pid()) as maps, counted_runs():
        even = even_table(machine, maps)
        yield played(EVEN_TITLE, 1, HOST, field.space, even)
        machine.console.ask("weights", weights=list(WEIGHTS))
        changed = wait_for(maps, "the changed table", _follows_weights)
        yield played(CHANGED_TITLE, 2, HOST, field.space, changed)
        even = even_table(machine, maps)
        yield played(GUEST_TITLE, 3, SECOND, field.second.console, even)


def even_table(machine: Machine, maps: SteeringMaps) -> Steering:
    """Let the first guest spread its packets evenly, and return what the kernel's maps then say."""
    machine.console.ask("equal", queues=QUEUES)
    return wait_for(maps, "an even table", _is_even)


def _is_even(steering: Steering) -> bool:
    return steering.redirect and steering.queues == QUEUES and len(set(steering.table)) == QUEUES


def _follows_weights(steering: Steering) -> bool:
    return set(steering.table) == {queue for queue, weight in enumerate(WEIGHTS) if weight}
