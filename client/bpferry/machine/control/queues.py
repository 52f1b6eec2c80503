# SPDX-License-Identifier: LGPL-2.1-or-later
"""One card's steering and rings: from its maps, which are read as memory, and from its rings.

Rings are counted by their indices (``card_rings``). With a vIOMMU and vhost these are not where
QEMU says, and in packed rings there are none: then it is said what cannot be counted.
"""

import time

from msgspec.structs import replace

from bpferry.domain.names import cards_of
from bpferry.errors import BadInput
from bpferry.machine.control.card_rings import CardRings, find_rings
from bpferry.machine.control.life import RunningVm
from bpferry.machine.control.server import Answer
from bpferry.machine.control.watching import CardSight
from bpferry.steering.observed import Observed, to_fields
from bpferry.steering.plan import Rung
from bpferry.steering.rings import Ring
from bpferry.steering.view import compare_plan, is_in_force
from bpferry_wire.codec import Fields


class Queues:
    """Answers what is asked about the cards of *vm*."""

    def __init__(self, vm: RunningVm) -> None:
        self._vm = vm
        self._rings: dict[str, CardRings] = {}
        """By card, as of the last full look."""

    async def steering(self, fields: Fields) -> Answer:
        """Return all that is known of one card; or only how far its rings are, for a quick look."""
        card_id = fields.text("card")
        quick = fields.has("quick") and fields.boolean("quick")
        fields.done()
        observed = self._from_maps(card_id)
        if quick and (counted := await self._count(card_id)):
            return Answer(to_fields(_with(observed, counted)))
        watch = self._vm.watches.get(card_id)
        if watch is not None:
            watch.look_again()
        return Answer(to_fields(await self._with_rings(observed)))

    def _from_maps(self, card_id: str) -> Observed:
        plan = self._vm.prepared.plans.get(card_id)
        if plan is None:
            names = ", ".join(device.id for device in cards_of(self._vm.machine))
            raise BadInput(
                f"'{self._vm.name}' has no card '{card_id}'",
                f"it has these: {names}" if names else "it has no card at all",
            )
        seen = replace(CardSight(self._vm, card_id).look(), lines=self._vm.record.fallbacks)
        notice = compare_plan(plan, seen)
        return Observed(
            card_id=card_id,
            rung=plan.rung,
            because="; ".join(plan.because),
            vhost=plan.vhost,
            queues=plan.queues,
            vcpus=self._vm.machine.vcpus,
            time_ns=time.monotonic_ns(),
            driver=False,
            steering=seen.steering,
            switched_on=seen.switched_on,
            in_force=is_in_force(plan, seen),
            difference="" if notice is None else notice.message,
            hint="" if notice is None else notice.hint,
        )

    async def _with_rings(self, observed: Observed) -> Observed:
        rings = await self._find(observed.card_id)
        if rings is None:
            why = "QEMU shows no rings of this card: it is no virtio card, or this QEMU is too old"
            return replace(observed, uncounted=why)
        if not rings.is_up:
            why = "the guest's driver is not up"
            in_force = True if observed.rung is Rung.NONE else None
            return replace(observed, in_force=in_force, difference="", hint="", uncounted=why)
        observed = replace(observed, driver=True)
        if rings.is_packed:
            why = "its rings are packed, and have no index to count by"
            return replace(observed, uncounted=why)
        if rings.in_kernel and rings.has_iommu:
            why = "vhost counts in the guest's memory, and a vIOMMU hides where that is"
            return replace(observed, uncounted=why)
        self._rings[observed.card_id] = rings
        return _with(observed, await rings.read())

    async def _find(self, card_id: str) -> CardRings | None:
        """Return the card's rings, asked where they are now; None if it is no virtio device."""
        known = self._known(card_id)
        if known is not None and await known.ask_places():
            return known
        self._rings.pop(card_id, None)
        vm = self._vm
        return await find_rings(vm.prepared.plans[card_id], vm.ask_qemu, vm.qemu_pid)

    async def _count(self, card_id: str) -> tuple[Ring, ...]:
        """Return the rings where the last full look has found them; none if they are not there."""
        known = self._known(card_id)
        return () if known is None else await known.read_quickly()

    def _known(self, card_id: str) -> CardRings | None:
        """Return what is known of this card, and not of one before it with the same id."""
        known = self._rings.get(card_id)
        return known if known and known.plan is self._vm.prepared.plans[card_id] else None


def _with(observed: Observed, rings: tuple[Ring, ...]) -> Observed:
    return replace(observed, driver=True, rings=rings, time_ns=time.monotonic_ns())
