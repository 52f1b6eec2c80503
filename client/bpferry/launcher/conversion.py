# SPDX-License-Identifier: LGPL-2.1-or-later
"""From another launcher's command line to one whose cards have what they lacked.

A card that cannot get what it lacks stays as it is, with the reason, so that a VM that started
before starts now. Only if eBPF is required is that an error.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgspec import Struct

from bpferry.domain.model.cards import VHOST_DEVICE
from bpferry.errors import BpferryError, NotReady, Refused, Unsupported
from bpferry.launcher.aims import Aim, read_aim
from bpferry.launcher.backends import Kind, bridge_of, read_backend
from bpferry.launcher.cards import FoundCard, LeftCard, find_cards
from bpferry.launcher.giving import GivenTap, Giver
from bpferry.launcher.guest import name_of, uses_kvm, vcpus_of
from bpferry.launcher.properties import NotUnderstoodError, read_properties
from bpferry.launcher.rewriting import NewCard, new_device, new_netdev, rewrite
from bpferry.launcher.words import NETWORK, Option, read_options
from bpferry.network.existing_tap import has_several_queues
from bpferry.network.vhost import probe_vhost
from bpferry.qemu.capabilities import Capabilities
from bpferry.steering.plan import plan_card
from bpferry.steering.requests import CardRequests, build_load
from bpferry.steering.rungs import CardPlan, Granted, HelperAnswer, HostFacts, Notice, Rung
from bpferry_wire.messages import Tap
from bpferry_wire.vm_names import clean_vm_name


class Wishes(NamedTuple):
    """What the user asks for besides."""

    queues: int | None = None
    """Of each card; None for as many as the VM has processors."""
    require_ebpf: bool = False


class Converted(NamedTuple):
    """One card, and what became of it."""

    card: NewCard
    plan: CardPlan
    requests: CardRequests
    tap_text: str = ""
    """The tap that it got; empty if it keeps what it had."""
    notices: tuple[Notice, ...] = ()
    closed: tuple[int, ...] = ()
    """The launcher's fds that QEMU no longer gets."""


class Conversion(Struct):
    """A whole command line."""

    argv: list[str]
    cards: list[Converted | LeftCard] = []

    @property
    def is_changed(self) -> bool:
        """Whether any card is."""
        return any(card.card.is_changed for card in self.converted)

    @property
    def closed(self) -> list[int]:
        """The launcher's fds that QEMU no longer gets."""
        return [fd for card in self.converted for fd in card.closed]

    @property
    def converted(self) -> list[Converted]:
        """The cards that were understood."""
        return [card for card in self.cards if isinstance(card, Converted)]


def has_taps(argv: Sequence[str]) -> bool:
    """Say whether any card of *argv* has, or could have, a tap: otherwise nothing can change."""
    for found in find_cards(list(read_options(argv))):
        if isinstance(found, FoundCard):
            with contextlib.suppress(NotUnderstoodError):
                read_backend(found.netdev.properties)
                return True
    return False


def find_left(argv: Sequence[str]) -> list[LeftCard]:
    """Return why the cards of *argv*, which has no taps that are understood, stay as they are.

    Without a tap or a bridge on the command line, nobody waits for that, and it is not told.
    """
    options = list(read_options(argv))
    if not any(map(_names_tap, options)):
        return []
    return [card for card in map(_left, find_cards(options)) if card is not None]


def _left(card: FoundCard | LeftCard) -> LeftCard | None:
    if isinstance(card, LeftCard):
        return card
    try:
        read_backend(card.netdev.properties)
    except NotUnderstoodError as error:
        return LeftCard(card.name, str(error))
    return None


def _names_tap(option: Option) -> bool:
    """Say whether *option* puts a tap behind a card."""
    if option.name not in NETWORK or option.value is None:
        return False
    with contextlib.suppress(NotUnderstoodError):
        return read_properties(option.value, "type").get("type") in ("bridge", "tap")
    return False


def convert(
    argv: Sequence[str], capabilities: Capabilities, giver: Giver, wishes: Wishes
) -> Conversion:
    """Return *argv*, whose program has *capabilities*, with what *giver* gives to its cards.

    Raises:
        BpferryError: eBPF is required, and a card cannot have it.
    """
    made = _Converter(argv, capabilities, giver, wishes)
    cards = list(made.cards())
    new = [card.card for card in cards if isinstance(card, Converted)]
    return Conversion(rewrite(argv, new), cards)


class _Converter:
    def __init__(
        self, argv: Sequence[str], capabilities: Capabilities, giver: Giver, wishes: Wishes
    ) -> None:
        options = list(read_options(argv))
        self._found = list(find_cards(options))
        self._vcpus = vcpus_of(options)
        self._name = name_of(options)
        self._capabilities = capabilities
        self._giver = giver
        self._wishes = wishes
        kvm = uses_kvm(argv[0], options)
        self._host = HostFacts(kvm, {VHOST_DEVICE: probe_vhost(VHOST_DEVICE)})

    def cards(self) -> Iterator[Converted | LeftCard]:
        """Yield what becomes of each card."""
        for found in self._found:
            if isinstance(found, LeftCard):
                self._check_left(found)
                yield found
                continue
            try:
                yield self._convert(found)
                self._giver.keep()
            except NotUnderstoodError as error:
                self._giver.give_back()
                left = LeftCard(found.name, str(error))
                self._check_left(left)
                yield left
            except BpferryError as error:
                self._giver.give_back()
                if self._wishes.require_ebpf:
                    raise
                yield LeftCard(found.name, error.message, error.hint)

    def _check_left(self, left: LeftCard) -> None:
        if self._wishes.require_ebpf:
            raise Unsupported(
                f"{left.name}: it cannot be steered by eBPF, which is required: {left.reason}",
                "give it a tap and a virtio card that are described on this command line alone, "
                "or leave out --require-ebpf",
            )

    def _convert(self, found: FoundCard) -> Converted:
        aim = read_aim(found, self._capabilities, vcpus=self._vcpus, queues=self._wishes.queues)
        self._check_vhost(aim)
        match aim.backend.kind:
            case Kind.BRIDGE:
                return self._from_helper(aim, aim.backend.name)
            case Kind.NAMED:
                return self._existing(aim)
            case Kind.ONE_FD if aim.queues > 1:
                return self._from_helper(aim, bridge_of(aim.backend.fds[0]))
            case Kind.ONE_FD:
                raise NotUnderstoodError("it has a tap already, and one queue is all it can have")
        return self._with_set(aim, aim.queues, "")

    def _check_vhost(self, aim: Aim) -> None:
        problem = self._host.problem_of(VHOST_DEVICE)
        if aim.backend.vhost and aim.backend.kind is not Kind.FDS and problem:
            raise NotUnderstoodError(f"it asks for vhost: {problem}")

    def _from_helper(self, aim: Aim, bridge: str) -> Converted:
        """Give the card a new tap on *bridge*."""
        asked = aim.tap(aim.queues, bridge)._replace(vm=clean_vm_name(self._name))
        try:
            given = self._new_tap(aim, asked)
        except (Refused, NotReady, Unsupported):
            # Fewer queues may be allowed; if not, this says why.
            asked = asked._replace(queues=self._giver.allowed_queues(asked))
            if aim.backend.kind is Kind.ONE_FD and asked.queues == 1:
                text = f"the policy allows one queue on bridge '{bridge}'"
                raise NotUnderstoodError(text) from None
            given = self._new_tap(aim, asked)
        queues = asked.queues
        made = self._with_set(aim, queues, bridge, given.words)
        notices = made.notices
        if queues < aim.queues:
            text = f"{aim.name}: the policy allows {queues} queues, where {aim.queues} are wanted"
            notices = (Notice(text, "see: bpferry can-i"), *notices)
        return made._replace(
            requests=CardRequests(asked, made.requests.load),
            tap_text=given.text,
            notices=notices,
            closed=(*aim.backend.fds, *aim.backend.vhost_fds),
        )

    def _new_tap(self, aim: Aim, asked: Tap) -> GivenTap:
        # What cannot be planned is not asked for.
        self._plan(aim, asked.queues, asked.source, Granted.NOT_ASKED)
        return self._giver.tap(aim.name, asked)

    def _existing(self, aim: Aim) -> Converted:
        """Open the tap that the card names."""
        interface = aim.backend.name
        queues = 1 if has_several_queues(interface) is False else aim.queues
        self._plan(aim, queues, "", Granted.NOT_ASKED)
        given = self._giver.existing(aim.name, interface, queues)
        made = self._with_set(aim, queues, "", given.words)
        return made._replace(tap_text=given.text, closed=aim.backend.vhost_fds)

    def _with_set(
        self, aim: Aim, queues: int, bridge: str, taps: tuple[str, ...] = ()
    ) -> Converted:
        """Ask for the card's eBPF set, and give it *taps*; without them it keeps its netdev."""
        plan = self._plan(aim, queues, bridge, Granted.NOT_ASKED)
        new_device(aim, plan, self._capabilities, ())
        load = build_load(self._capabilities, self._name) if plan.rung is Rung.EBPF else None
        words: tuple[str, ...] = ()
        if load is not None:
            words, answer = self._giver.ebpf(aim.name, load)
            plan = self._plan(aim, queues, bridge, answer)
        vhosts = self._giver.vhost(aim.name, queues) if plan.vhost and taps else ()
        card = NewCard(
            aim.found,
            new_netdev(aim, plan, taps, vhosts) if taps else aim.found.netdev.properties,
            new_device(aim, plan, self._capabilities, words),
        )
        return Converted(card, plan, CardRequests(None, load), notices=plan.warnings)

    def _plan(self, aim: Aim, queues: int, bridge: str, answer: HelperAnswer) -> CardPlan:
        return plan_card(
            aim.card(queues, bridge),
            self._capabilities,
            self._host,
            default_rss=True,
            answer=answer,
            require_ebpf=self._wishes.require_ebpf and aim.is_virtio,
        )
