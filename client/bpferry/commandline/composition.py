# SPDX-License-Identifier: LGPL-2.1-or-later
"""The VM as a whole: plans of its cards, what is implied, its parts, and what is refused of it.

It is built once. If something is refused and the user goes on without it, it is built again without
that, until nothing is refused any more: what another part needed may be gone. What is refused only
then follows from what was left out.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bpferry.commandline.attempt import settle
from bpferry.commandline.build import Built, build
from bpferry.commandline.context import Context
from bpferry.commandline.implicit import complete
from bpferry.commandline.parts import Refusal
from bpferry.commandline.system.build import check_kind
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import Named, cards_of
from bpferry.domain.remaining import Remaining, total_of
from bpferry.errors import Unsupported
from bpferry.qemu.defaults import machine_type_of
from bpferry.steering.plan import CardPlan, HostFacts, plan_card

if TYPE_CHECKING:
    from bpferry.domain.model.cards import Card
    from bpferry.steering.requests import CardRequests


class Circumstances(Struct, frozen=True):
    """What the plans of cards depend on besides QEMU."""

    host: HostFacts
    require_ebpf: bool = False


class Composition(Struct, frozen=True):
    """A VM that was built once."""

    machine: Machine
    """The document's, without what is implied."""
    context: Context
    built: Built
    """Complete where nothing was refused."""
    requests: "dict[str, CardRequests]"
    """What is asked of the helpers, by card."""
    refusals: tuple[Refusal, ...]


class _Planned(Struct, frozen=True):
    """One card that is possible as described."""

    device: "Named[Card]"
    plan: CardPlan
    requests: "CardRequests"


class IndispensableError(Exception):
    """What no VM can do without is refused."""

    def __init__(self, refused: Unsupported) -> None:
        super().__init__(refused.message)
        self.refused = refused


def compose(bare: Context, around: Circumstances) -> Composition:
    """Return the VM of *bare*, whose plans are not made yet, and all that is refused of it."""
    refusals: list[Refusal] = []
    planned: list[_Planned] = []
    for found in _plan(bare, around):
        if isinstance(found, Refusal):
            refusals.append(found)
        else:
            planned.append(found)
    cards = Remaining(
        ((one.device.number, one.device.value) for one in planned), total_of(bare.machine.cards)
    )
    machine = msgspec.structs.replace(bare.machine, cards=cards)
    completed = complete(replace(bare, machine=machine))
    plans = {one.device.id: one.plan for one in planned}
    context = replace(bare, machine=completed.machine, plans=plans)
    built = build(context)
    return Composition(
        machine=bare.machine,
        context=context,
        built=built,
        requests={one.device.id: one.requests for one in planned},
        refusals=_each_once((*refusals, *_after(refusals, (*completed.refusals, *built.refusals)))),
    )


def _after(first: Sequence[Refusal], later: Sequence[Refusal]) -> Iterator[Refusal]:
    """Yield *later*, in which a card follows from its field that *first* refuses.

    A card of type ``bridge`` without its bridge is not the user's second mistake.
    """
    refused = [refusal.error.element or "" for refusal in first]
    for one in later:
        around = f"{one.error.element}."
        follows = one.follows or any(key.startswith(around) for key in refused)
        yield msgspec.structs.replace(one, follows=follows)


def _plan(bare: Context, around: Circumstances) -> Iterator[_Planned | Refusal]:
    def plan(device: "Named[Card]", context: Context) -> Iterator[_Planned | Unsupported]:
        from bpferry.steering.requests import requests_of  # noqa: PLC0415 - where there is a card

        made = plan_card(
            device,
            context.capabilities,
            around.host,
            default_rss=context.machine.default_rss,
            require_ebpf=around.require_ebpf,
        )
        asked = requests_of(device, context.owner, context.machine.name, made, context.capabilities)
        yield _Planned(device, made, asked)

    for device in cards_of(bare.machine):
        yield from settle(plan, device, bare)


def _each_once(refusals: Sequence[Refusal]) -> tuple[Refusal, ...]:
    """Return the first of *refusals* for each place; several parts may look at one."""
    first: dict[str | None, Refusal] = {}
    for refusal in refusals:
        first.setdefault(refusal.error.element, refusal)
    return tuple(first.values())


def settle_kind(bare: Context) -> tuple[Context, tuple[Refusal, ...]]:
    """Return *bare* with a machine type and an architecture that this QEMU has, and refusals.

    All else depends on these two, so that they are settled before anything is built.
    """
    refusals = tuple(Refusal(error) for error in check_kind(bare))
    return (without(bare, refusals) if refusals else bare), refusals


def without(bare: Context, refusals: Sequence[Refusal]) -> Context:
    """Return *bare* without what *refusals* are about.

    Raises:
        IndispensableError: no VM can do without one of them.
    """
    from bpferry.domain.leaving_out import leave_out  # noqa: PLC0415 - for mistakes only

    machine = bare.machine
    for refusal in refusals:
        left = leave_out(machine, refusal.error.element or "", in_xml=bare.in_xml)
        if left is None:
            raise IndispensableError(refusal.error)
        machine = left.value
    if machine == bare.machine:
        raise IndispensableError(refusals[0].error)
    machine_type = machine_type_of(machine, bare.capabilities.arch)
    return replace(bare, machine=machine, machine_type=machine_type)


def compose_rest(
    first: Composition, bare: Context, around: Circumstances
) -> tuple[Composition, tuple[Refusal, ...]]:
    """Return the VM without what is refused in *first*, and what is refused as a consequence.

    Raises:
        IndispensableError: no VM can do without something that is refused.
    """
    made, following = first, []
    while made.refusals:
        bare = without(bare, made.refusals)
        made = compose(bare, around)
        following += [msgspec.structs.replace(refusal, follows=True) for refusal in made.refusals]
    return made, tuple(following)
