# SPDX-License-Identifier: LGPL-2.1-or-later
"""What QEMU inherits and what has to exist before it: the cards' fds, sockets, companions.

Everything is opened here, under the names that the command line has for it, and closed with the
block. If something fails, everything that is open already is closed.
"""

import contextlib
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from bpferry.commandline.build import QMP, Built
from bpferry.commandline.parts import (
    Affinity,
    Command,
    Companion,
    Endpoint,
    Environment,
    Link,
    Listen,
    OpenDevice,
    OpenVsock,
    OutputFile,
    OwnSocket,
    PlugIn,
    Scheduling,
    Secret,
    SocketPair,
    StandardStreams,
)
from bpferry.domain.document import Document
from bpferry.errors import BpferryError, all_in_one
from bpferry.machine.companions import Running, start_companions
from bpferry.machine.control_socket import open_control
from bpferry.machine.device_nodes import acquire_cid, open_device
from bpferry.machine.draft import Draft
from bpferry.machine.files import make_files
from bpferry.machine.folders import folders_of, remove_empty
from bpferry.machine.hindrances import find_in_use
from bpferry.machine.listening import connect_to, open_listen
from bpferry.machine.locked_memory import raised_limit
from bpferry.machine.name_lock import hold_name
from bpferry.machine.open_files import raise_limit
from bpferry.machine.output_files import open_output
from bpferry.machine.own_sockets import keep_clear
from bpferry.machine.refusals import located
from bpferry.machine.reporter import Reporter
from bpferry.machine.secrets import describe, open_secret
from bpferry.steering.plan import CardPlan

if TYPE_CHECKING:
    from bpferry.machine.arrival import Arrival
    from bpferry.machine.card_fds import Helpers
    from bpferry.network.tap_helper import GrantedTap
    from bpferry.steering.maps import SteeringMaps


class Prepared(Struct, frozen=True):
    """Everything that QEMU needs to start. The code that made it closes what is in it."""

    draft: Draft
    """What it was made from, with the plans as they were before the helpers' answers."""
    built: Built
    """The command line, with the numbers of the fds."""
    plans: dict[str, CardPlan]
    taps: "dict[str, GrantedTap]"
    """By card; only for cards whose tap the helper made."""
    pass_fds: tuple[int, ...]
    """What QEMU inherits under its own number."""
    environment: dict[str, str]
    """What is set in QEMU's environment in addition to ours."""
    monitor: socket.socket
    """Our end."""
    control: socket.socket
    """Where commands to the VM arrive."""
    console: socket.socket | None
    """Our end of QEMU's standard streams, if a serial console of the guest is on them."""
    streams: socket.socket | None
    """QEMU's end of the same."""
    maps: "dict[str, SteeringMaps]"
    """By card; only for cards that eBPF steers."""
    inherited: contextlib.ExitStack
    """Our copies of what QEMU inherits, to be closed as soon as it runs."""
    commands: tuple[Command, ...] = ()
    """What QEMU is told once it answers."""
    affinities: tuple[Affinity, ...] = ()
    schedulings: tuple[Scheduling, ...] = ()
    plugged_in: tuple[int, ...] = ()
    """Processors of the guest that are added before it runs."""
    incoming: "Arrival | None" = None
    """Where the VM goes on from, if it is not booted."""
    companions: tuple[Running, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Where each secret comes from and what it is for, in words, by its name in QEMU."""
    endpoints: tuple[Endpoint, ...] = ()
    """Where to connect to the VM; what QEMU chooses is empty."""

    @property
    def document(self) -> Document:
        """The description, as far as it is supported."""
        return self.draft.document

    @property
    def argv(self) -> tuple[str, ...]:
        """What is started."""
        waits = () if self.incoming is None else self.incoming.arguments
        return (*self.built.argv, *waits)

    @property
    def stays_paused(self) -> bool:
        """Whether the user had paused the VM before it came here."""
        return self.incoming is not None and self.incoming.paused


@contextlib.contextmanager
def prepare(
    draft: Draft, helpers: "Helpers | None", reporter: Reporter, incoming: "Arrival | None" = None
) -> Iterator[Prepared]:
    """Take the VM's name, ask the helpers, start the companions, and build the command line.

    A VM without cards needs no *helpers*.
    What can be found beforehand is in the verdict on *draft*, and is not looked for again, except
    for what others may have taken while a VM of the same name ended.

    Raises:
        BpferryError: something that the VM cannot do without is missing.
    """
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as inherited:
        file = draft.document.origins.path
        with _naming_places(draft.document):
            name_lock = ours.enter_context(hold_name(draft.machine.name, file, reporter))
        shared = incoming is not None and incoming.images_are_shared
        _stop_at(find_in_use(draft, images_are_shared=shared))
        raise_limit(draft)
        runtime = Path(folders_of(draft.machine.name).runtime)
        ours.callback(remove_empty, runtime)
        control = ours.enter_context(open_control(runtime))
        ours.enter_context(raised_limit(draft.built))
        opened = _Opened(ours, inherited)
        if helpers is not None:
            _open_cards(opened, draft, helpers, reporter)
        # What has to exist does not depend on what the helpers said.
        built = draft.built
        _open_rest(built, opened, draft)
        if incoming is not None:
            incoming.check_same(draft.after(opened.plans).built)
        final = draft.build(opened.plans, opened.numbers())
        with _naming_places(draft.document):
            companions = ours.enter_context(_start_companions(final, reporter, opened))
        yield Prepared(
            draft=draft,
            built=final,
            plans=opened.plans,
            taps=opened.taps,
            pass_fds=(*opened.fds.values(), *name_lock),
            environment={entry.name: entry.value for entry in built.of(Environment)},
            commands=built.of(Command),
            affinities=built.of(Affinity),
            schedulings=built.of(Scheduling),
            plugged_in=tuple(number for part in built.of(PlugIn) for number in part.vcpus),
            companions=companions,
            secrets=_described(draft),
            endpoints=final.of(Endpoint),
            monitor=opened.ends[QMP],
            control=control,
            incoming=incoming,
            console=opened.ends.get(CONSOLE),
            streams=opened.theirs.get(CONSOLE),
            maps=opened.maps,
            inherited=inherited,
        )


def _described(draft: Draft) -> dict[str, str]:
    """Return what each secret is, in words."""
    return {
        secret.name: describe(secret, draft.secret_files, draft.document)
        for secret in draft.built.of(Secret)
    }


@contextlib.contextmanager
def _naming_places(document: Document) -> Iterator[None]:
    """Add the place in *document* to an error that names a key of the model."""
    try:
        yield
    except BpferryError as error:
        raise (located(error, document) if error.element else error) from error


def _stop_at(hindrances: Iterable[BpferryError]) -> None:
    """Raise one error about everything that is in the way, if there is anything."""
    found = list(hindrances)
    if found:
        raise all_in_one(found)


CONSOLE: Final = "console"

SEND_BUFFER: Final = 1 << 30
"""Bytes that a companion may write before QEMU reads them; net.core.wmem_max allows fewer."""


class _Opened(Struct):
    """What is open by now."""

    ours: contextlib.ExitStack
    inherited: contextlib.ExitStack
    fds: dict[str, int] = field(default_factory=dict)
    """What QEMU inherits, by name."""
    values: dict[str, int] = field(default_factory=dict)
    """Other numbers that are known only now, by name."""
    ends: dict[str, socket.socket] = field(default_factory=dict)
    """Our ends of socket pairs."""
    theirs: dict[str, socket.socket] = field(default_factory=dict)
    peers: dict[str, socket.socket] = field(default_factory=dict)
    """The companions' ends of links."""
    plans: dict[str, CardPlan] = field(default_factory=dict)
    """By card, as they are after the helpers' answers."""
    taps: "dict[str, GrantedTap]" = field(default_factory=dict)
    """By card."""
    maps: "dict[str, SteeringMaps]" = field(default_factory=dict)
    """By card; our own view of them, which stays as long as the VM runs."""

    def numbers(self) -> dict[str, str]:
        """Return what the command line has for each fd, by its name."""
        peers = {name: sock.fileno() for name, sock in self.peers.items()}
        numbers = self.fds | self.values | peers
        return {name: str(number) for name, number in numbers.items()}

    def open_pair(self, name: str) -> socket.socket:
        """Make a socket pair and return QEMU's end."""
        mine, theirs = socket.socketpair()
        self.ends[name] = self.ours.enter_context(mine)
        self.theirs[name] = self.inherited.enter_context(theirs)
        return theirs

    def open_link(self, link: Link) -> None:
        """Make a connection whose ends both go to others."""
        qemus, peers = connect_to(Path(link.path)) if link.path else socket.socketpair()
        # passt does so with a connection that it accepts, and not with one that it inherits.
        peers.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self.fds[link.name] = self.inherited.enter_context(qemus).fileno()
        self.peers[link.peer] = self.inherited.enter_context(peers)


@contextlib.contextmanager
def _start_companions(
    final: Built, reporter: Reporter, opened: _Opened
) -> Iterator[tuple[Running, ...]]:
    """Start the companions of *final* with their ends of links, and keep none of those.

    If one were left open here, QEMU would not see that its companion has ended.
    """
    fds = {name: sock.fileno() for name, sock in opened.peers.items()}
    with start_companions(final.of(Companion), reporter, fds) as companions:
        for sock in opened.peers.values():
            sock.close()
        yield companions


def _open_cards(opened: _Opened, draft: Draft, helpers: "Helpers", reporter: Reporter) -> None:
    """Open what is behind the cards."""
    from bpferry.machine.card_fds import map_set, open_cards  # noqa: PLC0415 - where there are any

    cards = open_cards(draft, helpers, reporter, opened.inherited)
    opened.fds |= cards.fds
    opened.plans, opened.taps = cards.plans, cards.taps
    for card_id, granted in cards.sets.items():
        opened.maps[card_id] = opened.ours.enter_context(map_set(granted))


def _open_rest(built: Built, opened: _Opened, draft: Draft) -> None:
    """Make and open all that is not for the cards."""
    make_files(built, draft.document)
    with _naming_places(draft.document):
        _open_sockets(built, opened)
        _open_secrets(built, opened, draft)


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
        # The path has to stay for as long as the VM runs; our copy of the fd does not.
        sock = opened.ours.enter_context(open_listen(listen))
        opened.inherited.callback(sock.close)
        opened.fds[listen.name] = sock.fileno()
    for node in built.of(OpenDevice):
        opened.fds[node.name] = opened.inherited.enter_context(open_device(node))
    for vsock in built.of(OpenVsock):
        fd = opened.fds[vsock.name] = opened.inherited.enter_context(open_device(vsock))
        opened.values[vsock.cid] = acquire_cid(fd, vsock)
    for output in built.of(OutputFile):
        opened.fds[output.name] = opened.inherited.enter_context(open_output(output))


def _open_secrets(built: Built, opened: _Opened, draft: Draft) -> None:
    for secret in built.of(Secret):
        fd = opened.inherited.enter_context(open_secret(secret, draft.secret_files))
        opened.fds[secret.name] = fd
