# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a description becomes on this host: a plan for each card, fds, and a command line.

``draft`` asks QEMU what it can do and plans; it needs no helper, no tap and no right. ``Prepared``
then gets the fds. What fails closes what was there already.
"""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bpferry.domain.model import Accelerator, Card, Machine
from bpferry.errors import BadInput, BpferryError, NoHelper
from bpferry.machine.reporter import Reporter
from bpferry.network.broker import Broker, GrantedSet
from bpferry.network.tap import open_tap
from bpferry.qemu import accelerator as accelerators
from bpferry.qemu import commandline
from bpferry.qemu.capabilities import Capabilities
from bpferry.qemu.probe import probe
from bpferry.steering.maps import SteeringMaps
from bpferry.steering.plan import (
    RSS_OBJECT,
    CardPlan,
    Granted,
    HelperAnswer,
    Notice,
    Rung,
    plan_card,
)
from bpferry_wire.objects import RSS

MAP_NAMES: Final = tuple(described.name for described in RSS.maps)
"""The maps of a set: config, key, table."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What is known of a VM on this host before anything is asked of the helper."""

    machine: Machine
    capabilities: Capabilities
    accelerator: Accelerator
    accelerator_reason: str
    plans: dict[str, CardPlan]
    require_ebpf: bool

    def names_as_fds(self) -> dict[str, str]:
        """Return the text for each fd in a dry run: its name."""
        return {name: name for name in commandline.fd_names(self.machine, self.plans)}

    def argv(self, plans: dict[str, CardPlan], fds: dict[str, str]) -> tuple[str, ...]:
        """Return QEMU's command line."""
        return commandline.build_commandline(
            self.machine, self.capabilities, self.accelerator, plans, fds
        )

    def general_notices(self) -> tuple[Notice, ...]:
        """Return what is less than wished about the VM as a whole; each card's plan has its own."""
        return () if self.capabilities.sandbox else (NO_SANDBOX,)


NO_SANDBOX: Final = Notice(
    "this QEMU was built without a sandbox (-sandbox), and runs without one",
    "use a QEMU that was built with libseccomp",
)


def draft(machine: Machine, reporter: Reporter, *, require_ebpf: bool = False) -> Draft:
    """Ask QEMU what it can do, try the accelerator, and plan each card.

    Raises:
        BpferryError: QEMU cannot be asked, or eBPF is demanded and certainly not possible.
    """
    reporter.progress(f"asking '{machine.qemu}' what it can do")
    capabilities = probe(machine.qemu)
    accelerator, reason = accelerators.choose(
        machine.accelerator, machine.qemu, machine.machine_type
    )
    plans = {
        card.id: plan_card(card, capabilities, require_ebpf=require_ebpf) for card in machine.cards
    }
    return Draft(machine, capabilities, accelerator, reason, plans, require_ebpf)


def find_missing_files(machine: Machine) -> Iterator[BadInput]:
    """Yield an error for each file of *machine* that is not there or cannot be read."""
    named = [("kernel", machine.kernel), ("initrd", machine.initrd)]
    named += [(f"disks[{index}].path", disk.path) for index, disk in enumerate(machine.disks)]
    for element, path in named:
        if path is None:
            continue
        try:
            with Path(path).open("rb"):
                pass
        except OSError as error:
            yield BadInput(
                f"cannot read '{path}': {error.strerror}", f"it stands at '{element}'", element
            )


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that QEMU needs to start. Whoever made it closes what is in it."""

    argv: tuple[str, ...]
    plans: dict[str, CardPlan]
    pass_fds: tuple[int, ...]
    """What QEMU inherits, in the order of the names."""
    monitor: socket.socket
    """Our end."""
    serial: socket.socket | None
    """Our end."""
    maps: dict[str, SteeringMaps]
    """By card; only of cards that eBPF steers."""
    inherited: contextlib.ExitStack
    """Closes our copies of what QEMU inherits: to be closed as soon as it runs."""


@contextlib.contextmanager
def prepare(plan: Draft, broker: Broker, reporter: Reporter) -> Iterator[Prepared]:
    """Open the taps, ask the helper, and build the command line; all is closed with the block.

    Raises:
        BpferryError: something that the VM cannot do without is missing.
    """
    for missing in find_missing_files(plan.machine):
        raise missing
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as inherited:
        fds: dict[str, int] = {}
        ends: dict[str, socket.socket] = {}
        for name in commandline.socket_names(plan.machine):
            ends[name], theirs = socket.socketpair()
            ours.enter_context(ends[name])
            inherited.enter_context(theirs)
            fds[name] = theirs.fileno()
        for card in plan.machine.cards:
            queues = inherited.enter_context(open_tap(card.tap, card.queues))
            fds |= zip(commandline.tap_names(card), queues.borrow(), strict=True)
        sets = _ask_for_sets(plan, broker, reporter, inherited)
        plans = sets.plans
        fds |= sets.fds
        names = commandline.fd_names(plan.machine, plans)
        yield Prepared(
            argv=plan.argv(plans, {name: str(fds[name]) for name in names}),
            plans=plans,
            pass_fds=tuple(fds[name] for name in names),
            monitor=ends[commandline.QMP],
            serial=ends.get(commandline.SERIAL),
            maps={
                card_id: ours.enter_context(_map(granted))
                for card_id, granted in sets.granted.items()
            },
            inherited=inherited,
        )


def _map(granted: GrantedSet) -> SteeringMaps:
    by_name = granted.by_name()
    config, key, table = (by_name[name] for name in MAP_NAMES)
    return SteeringMaps(config, key, table)


@dataclass(frozen=True, slots=True)
class _Sets:
    """What came of asking the helper for each card."""

    plans: dict[str, CardPlan]
    granted: dict[str, GrantedSet]
    fds: dict[str, int]


def _ask_for_sets(
    plan: Draft, broker: Broker, reporter: Reporter, inherited: contextlib.ExitStack
) -> _Sets:
    sets = _Sets({}, {}, {})
    absent: NoHelper | None = None
    for card in plan.machine.cards:
        planned = plan.plans[card.id]
        if planned.rung is Rung.EBPF:
            reporter.progress(f"asking the helper for the eBPF set of '{card.id}'")
            answer: HelperAnswer | GrantedSet = absent or _load(plan, broker)
            if isinstance(answer, NoHelper):
                absent = answer
            if isinstance(answer, GrantedSet):
                sets.granted[card.id] = inherited.enter_context(answer)
                sets.fds.update(zip(commandline.set_names(card), answer.borrow(), strict=True))
                answer = Granted.YES
            planned = _plan_again(plan, card, answer)
        sets.plans[card.id] = planned
    return sets


def _load(plan: Draft, broker: Broker) -> GrantedSet | BpferryError:
    """Ask the helper, and return its set or what went wrong."""
    try:
        return broker.load(RSS_OBJECT, plan.capabilities.objects[RSS_OBJECT].digest)
    except BpferryError as error:
        return error


def _plan_again(plan: Draft, card: Card, answer: HelperAnswer) -> CardPlan:
    return plan_card(card, plan.capabilities, answer, require_ebpf=plan.require_ebpf)
