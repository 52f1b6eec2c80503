# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is behind the cards: taps first, then eBPF sets, then vhost.

The caller's stack closes all of it, which gives it back: a tap that the helper made, and a set,
live as long as their fds. So a step that fails undoes the steps before it. An error has the place
of its card in the document.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from bpferry.commandline.network.tap_card import set_names, tap_names, vhost_names
from bpferry.domain.names import Named, cards_of
from bpferry.errors import BpferryError, NoHelper, NotMember
from bpferry.machine.draft import Draft
from bpferry.machine.permissions import with_other_way
from bpferry.machine.refusals import located
from bpferry.machine.reporter import Reporter
from bpferry.network.bpf_helper import BpfHelper, GrantedSet
from bpferry.network.tap_helper import GrantedTap, TapHelper
from bpferry.network.vhost import open_vhost
from bpferry.steering.maps import SteeringMaps
from bpferry.steering.plan import CardPlan, Granted, HelperAnswer
from bpferry.steering.requests import describe_source
from bpferry_wire.fds import BorrowedFd, Closing, OwnedFds
from bpferry_wire.messages import Load, Tap
from bpferry_wire.objects import RSS

if TYPE_CHECKING:
    from bpferry.domain.model.cards import Card

MAP_NAMES: Final = tuple(described.name for described in RSS.maps)
"""The maps of a set: config, key, table."""


class Helpers(Closing):
    """Both helpers; each is asked when a card needs it."""

    __slots__ = ("sets", "taps")

    def __init__(self, sets: BpfHelper, taps: TapHelper) -> None:
        self.sets = sets
        self.taps = taps

    def close(self) -> None:
        """Close the connections."""
        self.sets.close()
        self.taps.close()


class CardFds(Struct, frozen=True):
    """What the cards have, by card; the caller's stack closes it."""

    plans: dict[str, CardPlan] = field(default_factory=dict)
    """The plans, as they are after the helper's answers."""
    fds: dict[str, int] = field(default_factory=dict)
    """By their names in the command line."""
    sets: dict[str, GrantedSet] = field(default_factory=dict)
    """The sets that were loaded."""
    taps: dict[str, GrantedTap] = field(default_factory=dict)
    """The taps that were made."""


def open_cards(
    draft: Draft, helpers: Helpers, reporter: Reporter, stack: contextlib.ExitStack
) -> CardFds:
    """Return all that the cards of *draft* need, owned by *stack*.

    Raises:
        BpferryError: a card cannot get something that it needs.
    """
    found = CardFds()
    asking = _Asking(draft, helpers, reporter, stack, found)
    for step in (asking.open_tap, asking.ask_for_set, asking.open_vhost):
        for device in cards_of(draft.machine):
            with _at(draft, device):
                step(device)
    return found


def map_set(granted: GrantedSet) -> SteeringMaps:
    """Return the maps of *granted*, mapped for reading."""
    by_name = granted.by_name()
    config, key, table = (by_name[name] for name in MAP_NAMES)
    return SteeringMaps(config, key, table)


@contextlib.contextmanager
def _at(draft: Draft, device: "Named[Card]") -> Iterator[None]:
    """Add its place in the document to an error of a card."""
    try:
        yield
    except BpferryError as error:
        raise located(error, draft.document, device.key) from error


class _Asking:
    """One step after the other, for all cards."""

    def __init__(
        self,
        draft: Draft,
        helpers: Helpers,
        reporter: Reporter,
        stack: contextlib.ExitStack,
        found: CardFds,
    ) -> None:
        self._draft = draft
        self._helpers = helpers
        self._reporter = reporter
        self._stack = stack
        self._found = found
        self._absent: NoHelper | NotMember | None = None

    def open_tap(self, device: "Named[Card]") -> None:
        """Open the tap that the card names, or ask for one."""
        card, asked = device.value, self._draft.requests[device.id].tap
        fds: list[BorrowedFd] = []
        if card.type == "ethernet" and card.tap is not None:
            fds = self._stack.enter_context(self._open_existing(device, card.tap)).borrow()
        elif asked is not None:
            fds = self._ask_for_tap(device.id, asked)
        self._found.fds.update(zip(tap_names(device.id, len(fds)), fds, strict=True))

    def _open_existing(self, device: "Named[Card]", name: str) -> OwnedFds:
        from bpferry.network.existing_tap import open_tap  # noqa: PLC0415 - few cards name a tap
        from bpferry.network.macvtap import find_macvtap  # noqa: PLC0415 - as above

        queues, macvtap = self._draft.plans[device.id].queues, find_macvtap(name)
        if macvtap is None:
            return open_tap(name, queues)
        return macvtap.open(queues, self._draft.mac_of(device))

    def _ask_for_tap(self, card_id: str, asked: Tap) -> list[BorrowedFd]:
        self._reporter.progress(
            f"asking the helper for a tap on {describe_source(asked)} for '{card_id}'"
        )
        try:
            tap = self._stack.enter_context(self._helpers.taps.tap(asked))
        except (NoHelper, NotMember) as error:
            raise with_other_way(error) from error
        self._found.taps[card_id] = tap
        return tap.borrow()

    def ask_for_set(self, device: "Named[Card]") -> None:
        """Ask for the card's programs and maps, and make another plan if there are none."""
        asked = self._draft.requests[device.id].load
        if asked is None:
            self._found.plans[device.id] = self._draft.plans[device.id]
            return
        self._reporter.progress(f"asking the helper for the eBPF set of '{device.id}'")
        answer: HelperAnswer | GrantedSet = self._absent or self._load(asked)
        if isinstance(answer, NoHelper | NotMember):
            self._absent = answer
        if isinstance(answer, GrantedSet):
            granted = self._stack.enter_context(answer)
            self._found.sets[device.id] = granted
            self._found.fds.update(zip(set_names(device.id), granted.borrow(), strict=True))
            answer = Granted.YES
        self._found.plans[device.id] = self._draft.plan(device, answer)

    def _load(self, asked: Load) -> GrantedSet | BpferryError:
        """Ask the helper, and return its set or what went wrong."""
        try:
            return self._helpers.sets.load(asked)
        except BpferryError as error:
            return error

    def open_vhost(self, device: "Named[Card]") -> None:
        """Open one fd of the vhost device for each queue, if the plan has vhost."""
        plan = self._found.plans[device.id]
        if plan.vhost:
            fds = self._stack.enter_context(open_vhost(device.value.vhost_device, plan.queues))
            names = vhost_names(device.id, plan.queues)
            self._found.fds.update(zip(names, fds.borrow(), strict=True))
