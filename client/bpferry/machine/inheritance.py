# SPDX-License-Identifier: LGPL-2.1-or-later
"""What QEMU inherits and what has to be there before it: sockets, taps, sets, companions.

All is opened here, under the names of the command line, and closed with the block. Whatever fails
closes what was there already.
"""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bpferry.domain.model.cards import Card
from bpferry.errors import BpferryError, NoHelper, QemuError, Unsupported
from bpferry.machine.companions import Running, start_companions
from bpferry.machine.device_nodes import open_device
from bpferry.machine.files import find_missing_files, make_files
from bpferry.machine.folders import folders_of, remove_empty
from bpferry.machine.listening import open_listen
from bpferry.machine.output_files import open_output
from bpferry.machine.own_sockets import keep_clear
from bpferry.machine.preparation import KVM_HINT, Draft, located
from bpferry.machine.reporter import Reporter
from bpferry.network.broker import Broker, GrantedSet
from bpferry.network.tap import open_tap
from bpferry.network.vhost import open_vhost
from bpferry.qemu.commandline.build import QMP, Built
from bpferry.qemu.commandline.names import cards_of
from bpferry.qemu.commandline.network.cards import set_names
from bpferry.qemu.commandline.network.netdevs import tap_names, vhost_names
from bpferry.qemu.commandline.parts import (
    Affinity,
    Command,
    Companion,
    Environment,
    Link,
    Listen,
    OpenDevice,
    OutputFile,
    OwnSocket,
    SocketPair,
    StandardStreams,
)
from bpferry.steering.maps import SteeringMaps
from bpferry.steering.plan import RSS_OBJECT, CardPlan, Granted, HelperAnswer, Rung
from bpferry_wire.objects import RSS

MAP_NAMES: Final = tuple(described.name for described in RSS.maps)
"""The maps of a set: config, key, table."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that QEMU needs to start. Whoever made it closes what is in it."""

    argv: tuple[str, ...]
    plans: dict[str, CardPlan]
    pass_fds: tuple[int, ...]
    """What QEMU inherits under its own number."""
    environment: dict[str, str]
    """What is set in QEMU's environment beside ours."""
    monitor: socket.socket
    """Our end."""
    console: socket.socket | None
    """Our end of QEMU's standard streams, where a serial console of the guest is on them."""
    streams: socket.socket | None
    """QEMU's end of the same."""
    maps: dict[str, SteeringMaps]
    """By card; only of cards that eBPF steers."""
    inherited: contextlib.ExitStack
    """Closes our copies of what QEMU inherits: to be closed as soon as it runs."""
    commands: tuple[Command, ...] = ()
    """What QEMU is told once it answers."""
    affinities: tuple[Affinity, ...] = ()
    companions: tuple[Running, ...] = ()


@contextlib.contextmanager
def prepare(draft: Draft, broker: Broker, reporter: Reporter) -> Iterator[Prepared]:
    """Open the taps, ask the helper, start the companions, and build the command line.

    Raises:
        BpferryError: something that the VM cannot do without is missing.
    """
    for missing in find_missing_files(draft.document):
        raise missing
    if draft.kvm_problem:
        raise QemuError(f"cannot start '{draft.machine.name}': {draft.kvm_problem}", KVM_HINT)
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as inherited:
        ours.callback(remove_empty, Path(folders_of(draft.machine.name).runtime))
        opened = _Opened(ours, inherited)
        _open_taps(draft, opened)
        sets = _ask_for_sets(draft, broker, reporter, opened)
        _open_vhosts(draft, sets.plans, opened)
        built = draft.build(sets.plans)
        make_files(built, draft.document)
        _open_sockets(built, opened)
        final = draft.build(sets.plans, opened.numbers())
        companions = ours.enter_context(_start_companions(final, reporter, opened))
        yield Prepared(
            argv=final.argv,
            plans=sets.plans,
            pass_fds=tuple(opened.fds.values()),
            environment={entry.name: entry.value for entry in built.of(Environment)},
            commands=built.of(Command),
            affinities=built.of(Affinity),
            companions=companions,
            monitor=opened.ends[QMP],
            console=opened.ends.get(CONSOLE),
            streams=opened.theirs.get(CONSOLE),
            maps={
                card_id: ours.enter_context(_map(granted))
                for card_id, granted in sets.granted.items()
            },
            inherited=inherited,
        )


CONSOLE: Final = "console"


@dataclass(slots=True)
class _Opened:
    """What is open by now."""

    ours: contextlib.ExitStack
    inherited: contextlib.ExitStack
    fds: dict[str, int] = field(default_factory=dict)
    """What QEMU inherits, by name."""
    ends: dict[str, socket.socket] = field(default_factory=dict)
    """Our ends of socket pairs."""
    theirs: dict[str, socket.socket] = field(default_factory=dict)
    peers: dict[str, socket.socket] = field(default_factory=dict)
    """The companions' ends of links."""

    def numbers(self) -> dict[str, str]:
        """Return what stands for each fd in a command line, by its name."""
        peers = {name: sock.fileno() for name, sock in self.peers.items()}
        return {name: str(fd) for name, fd in (self.fds | peers).items()}

    def open_pair(self, name: str) -> socket.socket:
        """Make a socket pair and return QEMU's end."""
        mine, theirs = socket.socketpair()
        self.ends[name] = self.ours.enter_context(mine)
        self.theirs[name] = self.inherited.enter_context(theirs)
        return theirs

    def open_link(self, link: Link) -> None:
        """Make a socket pair of which neither end is ours."""
        qemus, peers = socket.socketpair()
        self.fds[link.name] = self.inherited.enter_context(qemus).fileno()
        self.peers[link.peer] = self.inherited.enter_context(peers)


@contextlib.contextmanager
def _start_companions(
    final: Built, reporter: Reporter, opened: _Opened
) -> Iterator[tuple[Running, ...]]:
    """Start the companions of *final*, with their ends of links, of which we keep none.

    Were one of them left open here, QEMU would not see that its companion has ended.
    """
    fds = {name: sock.fileno() for name, sock in opened.peers.items()}
    with start_companions(final.of(Companion), reporter, fds) as companions:
        for sock in opened.peers.values():
            sock.close()
        yield companions


def _open_taps(draft: Draft, opened: _Opened) -> None:
    for key, card_id, card in cards_of(draft.machine):
        plan = draft.plans[card_id]
        if card.type == "ethernet" and card.tap is not None:
            queues = opened.inherited.enter_context(open_tap(card.tap, plan.queues))
            opened.fds |= zip(tap_names(card_id, plan.queues), queues.borrow(), strict=True)
        elif card.type in ("bridge", "network"):
            raise _no_taps(draft, key, card)


def _open_vhosts(draft: Draft, plans: dict[str, CardPlan], opened: _Opened) -> None:
    for _, card_id, card in cards_of(draft.machine):
        plan = plans[card_id]
        if plan.vhost:
            fds = opened.inherited.enter_context(open_vhost(card.vhost_device, plan.queues))
            opened.fds |= zip(vhost_names(card_id, plan.queues), fds.borrow(), strict=True)


def _no_taps(draft: Draft, key: str, card: Card) -> Unsupported:
    error = Unsupported(
        f"this version cannot make a tap on '{card.bridge or card.network}' for you",
        "use a tap that exists and is yours: type 'ethernet', with the tap's name as its target "
        "and managed='no' (ip tuntap add dev tap0 mode tap multi_queue vnet_hdr user YOU)",
        key,
    )
    return located(error, draft.document)


def _open_sockets(built: Built, opened: _Opened) -> None:
    for pair in built.of(SocketPair):
        opened.fds[pair.name] = opened.open_pair(pair.name).fileno()
    for link in built.of(Link):
        opened.open_link(link)
    if built.of(StandardStreams):
        opened.open_pair(CONSOLE)
    for own in built.of(OwnSocket):
        opened.ours.enter_context(keep_clear(own))
    for listen in built.of(Listen):
        # The path has to stay for as long as the VM runs; our copy of the fd has not.
        sock = opened.ours.enter_context(open_listen(listen))
        opened.inherited.callback(sock.close)
        opened.fds[listen.name] = sock.fileno()
    for node in built.of(OpenDevice):
        opened.fds[node.name] = opened.inherited.enter_context(open_device(node))
    for output in built.of(OutputFile):
        opened.fds[output.name] = opened.inherited.enter_context(open_output(output))


def _map(granted: GrantedSet) -> SteeringMaps:
    by_name = granted.by_name()
    config, key, table = (by_name[name] for name in MAP_NAMES)
    return SteeringMaps(config, key, table)


@dataclass(frozen=True, slots=True)
class _Sets:
    """What came of asking the helper for each card."""

    plans: dict[str, CardPlan]
    granted: dict[str, GrantedSet]


def _ask_for_sets(draft: Draft, broker: Broker, reporter: Reporter, opened: _Opened) -> _Sets:
    sets = _Sets({}, {})
    absent: NoHelper | None = None
    for key, card_id, card in cards_of(draft.machine):
        planned = draft.plans[card_id]
        if planned.rung is Rung.EBPF:
            reporter.progress(f"asking the helper for the eBPF set of '{card_id}'")
            answer: HelperAnswer | GrantedSet = absent or _load(draft, broker)
            if isinstance(answer, NoHelper):
                absent = answer
            if isinstance(answer, GrantedSet):
                sets.granted[card_id] = opened.inherited.enter_context(answer)
                opened.fds.update(zip(set_names(card_id), answer.borrow(), strict=True))
                answer = Granted.YES
            planned = draft.plan(key, card, card_id, answer)
        sets.plans[card_id] = planned
    return sets


def _load(draft: Draft, broker: Broker) -> GrantedSet | BpferryError:
    """Ask the helper, and return its set or what went wrong."""
    try:
        return broker.load(RSS_OBJECT, draft.capabilities.objects[RSS_OBJECT].digest)
    except BpferryError as error:
        return error
