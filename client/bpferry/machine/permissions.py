# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether the helpers would give the cards of a VM what they need, with nothing made.

A run that has nothing else in its way asks for the real thing at once. All others ask here, so that
what a helper is going to say is told with everything else.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from bpferry.domain.forms import either
from bpferry.domain.names import Named, cards_of
from bpferry.errors import BpferryError, NoHelper, NotMember, Refused
from bpferry.machine.draft import Draft
from bpferry.machine.faults import Fault
from bpferry.machine.refusals import located, placed
from bpferry.network.bpf_helper import BpfHelper
from bpferry.network.connection import why_not
from bpferry.network.tap_helper import TapHelper
from bpferry.steering.plan import CardPlan
from bpferry_wire.messages import Load, Tap

if TYPE_CHECKING:
    from bpferry.domain.model.cards import Card

OWN_TAP_HINT: Final = "or name a tap that is there and yours: " + either(
    'tap = "TAP" in place of the bridge or network',
    "<interface type='ethernet'> with <target dev='TAP' managed='no'/>",
)

ADDRESS_HINT: Final = (
    "give the card another MAC address, or the VM another name, if the address is made of that; "
    "'bpferry can-i' shows what you may do"
)
"""The reply to ``can`` has no hint, and no administrator needs to be asked about this."""


def with_other_way(error: NoHelper | NotMember) -> NoHelper | NotMember:
    """Return *error*, by which no tap can be asked for, with the way that needs no helper."""
    return type(error)(error.message, f"{error.hint}; {OWN_TAP_HINT}")


class Answers(Struct, frozen=True):
    """What the helpers say about a VM."""

    plans: Mapping[str, CardPlan]
    """By card, as it would be after the answers."""
    denied: tuple[BpferryError | Fault, ...] = ()
    """What they would not do, each with its place.

    Without its tap a VM does not start. Without its eBPF set a card may have less, which is a
    warning.
    """


def ask_helpers(draft: Draft, *, runs: bool) -> Answers:
    """Ask the helpers whether they would do what *draft* needs.

    If a VM of its name *runs*, the addresses of its cards are in use, most likely by that one. So
    nothing is said about them: the name is in the way, and is told.
    """
    with TapHelper() as taps, BpfHelper() as sets:
        asking = _Asking(draft, taps, sets, runs=runs)
        denied = tuple(asking.about_all())
    return Answers(asking.plans, denied)


class _Asking:
    """The cards of one VM; a helper that is not there is asked once, and told once."""

    def __init__(self, draft: Draft, taps: TapHelper, sets: BpfHelper, *, runs: bool) -> None:
        self._draft = draft
        self._runs = runs
        self._taps = taps
        self._sets = sets
        self._no_taps = False
        self._no_sets: BpferryError | None = None
        self.plans = dict(draft.plans)
        """The cards' plans after what was answered."""

    def about_all(self) -> Iterator[BpferryError | Fault]:
        """Yield what any of the cards would not get."""
        for device in cards_of(self._draft.machine):
            requests = self._draft.requests[device.id]
            if requests.tap is not None:
                yield from self.about_tap(device, requests.tap)
            if requests.load is not None:
                yield from self.about_set(device, requests.load)

    def about_tap(self, device: "Named[Card]", asked: Tap) -> Iterator[BpferryError]:
        """Yield why the card would not get its tap, if it would not."""
        if self._no_taps:
            return
        try:
            problem = self._why_no_tap(asked)
        except (NoHelper, NotMember) as error:
            self._no_taps = True
            problem = with_other_way(error)
        except BpferryError as error:
            problem = error
        if problem is not None:
            yield located(problem, self._draft.document, device.key)

    def _why_no_tap(self, asked: Tap) -> BpferryError | None:
        problem = why_not(self._taps.can(asked))
        if not isinstance(problem, Refused) or asked.mac is None:
            return problem
        other = _another(asked.mac)
        denied = why_not(self._taps.can(asked._replace(mac=other)))
        # Policy may refuse the other one for what it is, and this one is in use.
        if denied and _reason(denied, other) == _reason(problem, asked.mac):
            return problem
        return None if self._runs else Refused(problem.message, ADDRESS_HINT)

    def about_set(self, device: "Named[Card]", asked: Load) -> Iterator[BpferryError | Fault]:
        """Yield what the card would lack without its eBPF set, if it would not get it."""
        problem = self._no_sets or self._why_no_set(asked)
        if problem is None:
            return
        before = self._draft.plans[device.id].warnings
        try:
            plan = self._draft.plan(device, problem)
        except BpferryError as error:
            yield located(error, self._draft.document, device.key)
            return
        self.plans[device.id] = plan
        for warning in plan.warnings:
            if warning not in before:
                key = f"{device.key}.{warning.field}" if warning.field else device.key
                message = warning.message.removeprefix(f"{device.id}: ")
                fault = Fault(key, "warning", message, fix=warning.hint, kind="steering")
                yield placed(fault, self._draft.document)

    def _why_no_set(self, asked: Load) -> BpferryError | None:
        try:
            return why_not(self._sets.can(asked))
        except (NoHelper, NotMember) as error:
            self._no_sets = error
            return error
        except BpferryError as error:
            return error


def _reason(denied: BpferryError, mac: bytes) -> str:
    """Return why a tap for *mac* is denied, without that address."""
    return denied.message.replace(f"'{mac.hex(':')}'", "")


def _another(mac: bytes) -> bytes:
    """Return an address that policy has no reason to treat otherwise, if it names prefixes."""
    return mac[:-1] + bytes([mac[-1] ^ 1])
