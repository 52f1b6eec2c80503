# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMs of two users on two hosts: each step starts, stops, changes or moves one of them.

What every user should hold is known before each step, and so is whether the step has to be refused
because of the quota. Afterwards it is compared with what the helpers count, with the taps of each
host, and with what the QEMUs have open.
"""

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bpferry.errors import Refused
from tests.abuse.host import PATIENCE_S, QUEUES, USERS, VmHost, holding_of
from tests.support.census import wait_until
from tests.support.people import Person

if TYPE_CHECKING:
    from subprocess import Popen

QUOTA: Final = 3
"""Sets and taps of one user on one host: a VM of two cards and one of one, or one plugged card."""

PAUSE_S: Final = 0.2
"""A helper counts taps for one user eight times a second at most."""

MOST_PLUGGED: Final = 2
"""Free ports of a VM."""

VMS_EACH: Final = 4
"""VMs of one user, with one card or more each: some are refused on both hosts."""

START, STOP, ATTACH, DETACH, MOVE = "start", "stop", "attach", "detach", "move"

ODDS: Final = {START: 3, ATTACH: 3, DETACH: 2, STOP: 2, MOVE: 3}
"""They come more often than they go, so that the quotas are what keeps them out."""

REFUSED: Final = Refused.status


@dataclass
class Vm:
    """A VM that runs."""

    person: Person
    name: str
    place: int
    """Which host."""
    cards: int
    plugged: list[str] = field(default_factory=list)
    """Those that came later, by their ids."""
    process: "Popen[bytes] | None" = None
    """Until it moves; there, nobody is its parent."""

    def held(self) -> int:
        """Return how many sets it holds, and as many taps."""
        return self.cards + len(self.plugged)


class Fleet:
    """See the module's docstring."""

    def __init__(self, hosts: Sequence[VmHost], seed: int) -> None:
        self.done: Counter[str] = Counter()
        """How often each step was done, or refused."""
        self._hosts = hosts
        self._vms: list[Vm] = []
        self._chance = random.Random(seed)  # noqa: S311 - to be repeated

    def step(self) -> None:
        """Do one thing that is possible, and compare."""
        person = self._chance.choice(USERS)
        vms = [vm for vm in self._vms if vm.person == person]
        possible = self._possible(person, vms)
        op = self._chance.choices(list(possible), [ODDS[name] for name in possible])[0]
        vm = self._chance.choice(possible[op])
        fits = {START: self._start, STOP: self._stop, ATTACH: self._attach,
                DETACH: self._detach, MOVE: self._move}[op](vm)  # fmt: skip
        self.done[op if fits else f"{op} refused"] += 1
        self.compare()

    def end(self) -> None:
        """Stop all VMs."""
        for vm in tuple(self._vms):
            self._stop(vm)
            self.compare()

    def compare(self) -> None:
        """Fail unless everybody holds exactly what they should, whoever is asked."""
        for place, person in product(range(len(self._hosts)), USERS):
            self._compare_counts(place, person)
        for place, host in enumerate(self._hosts):
            wanted = sum(self._held(person, place) for person in USERS)
            assert host.held_by_all() == (wanted, wanted)
            assert len(host.tap.granted_taps()) == wanted
        cards = sum(vm.held() for vm in self._vms)
        assert wait_until(lambda: self._open_in_qemus() == (4 * cards, QUEUES * cards)), (
            f"QEMUs have open {self._open_in_qemus()}, for {cards} cards"
        )

    def _compare_counts(self, place: int, person: Person) -> None:
        """The same for what both helpers of one host count for *person*.

        A map is gone some milliseconds after its last fd.
        """
        host, wanted = self._hosts[place], self._held(person, place)
        assert wait_until(lambda: host.held(person) == (wanted, wanted), pause_s=PAUSE_S), (
            f"{host.held(person)} of {person} are held at {place}, not {wanted}"
        )

    def _open_in_qemus(self) -> tuple[int, int]:
        """Return how many programs and maps, and how many queues, all QEMUs have open."""
        pids = [pid for host in self._hosts for pid in host.processes() if _is_qemu(pid)]
        held = [holding_of(pid) for pid in pids]
        sets = frozenset().union(*(one.sets for one in held))
        return len(sets), sum(one.queues.total() for one in held)

    def _held(self, person: Person, place: int) -> int:
        return sum(vm.held() for vm in self._vms if (vm.person, vm.place) == (person, place))

    def _room(self, vm: Vm, place: int, more: int) -> bool:
        return self._held(vm.person, place) + more <= QUOTA

    # -- the steps; each returns whether it was to be done, and not refused

    def _possible(self, person: Person, vms: list[Vm]) -> dict[str, list[Vm]]:
        found = {
            START: [self._draft(person, vms)] if len(vms) < VMS_EACH else [],
            STOP: vms,
            ATTACH: [vm for vm in vms if len(vm.plugged) < MOST_PLUGGED],
            DETACH: [vm for vm in vms if vm.plugged],
            # A VM with a device that was plugged in does not move.
            MOVE: [vm for vm in vms if not vm.plugged],
        }
        return {op: of_these for op, of_these in found.items() if of_these}

    def _draft(self, person: Person, vms: list[Vm]) -> Vm:
        names = [f"vm{person.uid}-{number}" for number in range(VMS_EACH)]
        free = [name for name in names if name not in {vm.name for vm in vms}]
        place = self._chance.randrange(len(self._hosts))
        return Vm(person, free[0], place, self._chance.choice((1, 2)))

    def _start(self, vm: Vm) -> bool:
        host = self._hosts[vm.place]
        fits = self._room(vm, vm.place, vm.cards)
        vm.process = host.start(vm.person, vm.name, vm.cards)
        if not fits:
            assert vm.process.wait(PATIENCE_S) == REFUSED, host.said(vm.name)
            return False
        self._vms.append(vm)
        assert wait_until(lambda: self._state(vm) == "running", PATIENCE_S), host.said(vm.name)
        return True

    def _state(self, vm: Vm) -> str:
        listed = json.loads(self._hosts[vm.place].ask(vm.person, "list", "--json").stdout)["vms"]
        return next((str(one["state"]) for one in listed if one["name"] == vm.name), "")

    def _stop(self, vm: Vm) -> bool:
        self._ask(vm, "stop", "--force", vm.name)
        if vm.process is not None:
            assert vm.process.wait(PATIENCE_S) == 0, self._hosts[vm.place].said(vm.name)
        self._vms.remove(vm)
        return True

    def _attach(self, vm: Vm) -> bool:
        card = ("--bridge", "br0", f"--queues={QUEUES}", "--rss", "--require-ebpf", "--json")
        fits = self._room(vm, vm.place, 1)
        told = self._ask(vm, "attach-nic", *card, vm.name, status=0 if fits else REFUSED)
        if fits:
            vm.plugged.append(json.loads(told)["id"])
        return fits

    def _detach(self, vm: Vm) -> bool:
        card = self._chance.choice(vm.plugged)
        self._ask(vm, "detach-nic", vm.name, card)
        vm.plugged.remove(card)
        return True

    def _move(self, vm: Vm) -> bool:
        there = 1 - vm.place
        fits = self._room(vm, there, vm.cards)
        self._ask(vm, "migrate", vm.name, "ssh://other", status=0 if fits else REFUSED)
        if fits:
            if vm.process is not None:
                assert vm.process.wait(PATIENCE_S) == 0, self._hosts[vm.place].said(vm.name)
            vm.place, vm.process = there, None
        return fits

    def _ask(self, vm: Vm, *words: str, status: int = 0) -> str:
        done = self._hosts[vm.place].ask(vm.person, *words)
        assert done.returncode == status, (words, done.returncode, done.stdout + done.stderr)
        return done.stdout


def _is_qemu(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().startswith("qemu-system")
    except OSError:
        return False
