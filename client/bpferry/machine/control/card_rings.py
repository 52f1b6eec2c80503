# SPDX-License-Identifier: LGPL-2.1-or-later
"""The rings of one card, as QEMU has them: where they are, and how far they have come.

QEMU is asked with x-query-virtio-queue-status (since 7.2, qapi/virtio.json), and never with
x-query-virtio-status: that ends QEMU 11.1.3 by an assertion (qapi/qapi-visit-core.c). Two indices
are left out that are needed here:

    vhost     the used index is the kernel's, and x-query-virtio-vhost-queue-status has none either,
              and knows only the first pair of queues (hw/virtio/virtio-qmp.c)
    the available index, as the guest wrote it last; QEMU shows the one that it looked at last

Both are in the guest's memory, at addresses that QEMU knows, and are read there
(``guest_memory``). A guest may set up its rings elsewhere at any time, and QEMU tells nobody: a
full look asks for all addresses again, and a quick one does not.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Final, NamedTuple

from bpferry.machine.control.guest_memory import Ask, GuestMemory
from bpferry.qemu.monitor import CommandRefused
from bpferry.steering.plan import CardPlan
from bpferry.steering.rings import INDICES, Direction, Ring, waiting

AT_ONCE: Final = "/machine/peripheral/{}"

PATHS: Final = ("/machine/peripheral/{}/virtio-backend", AT_ONCE)
"""Where QEMU has the virtio device of a card: behind its bus, or on virtio-mmio at once."""

Values = Mapping[str, object]


class _Place(NamedTuple):
    """Where one ring is in the guest's memory."""

    queue: int
    direction: Direction
    size: int
    available_at: int
    used_at: int
    used: int
    """QEMU's own used index; with vhost, it stays where it was when vhost began."""


class CardRings:
    """The rings of the card of *plan*, which QEMU has at *path*."""

    def __init__(self, plan: CardPlan, path: str, ask: Ask, pid: int) -> None:
        self.plan = plan
        self.is_packed = False
        self.has_iommu = False
        self.is_up = False
        """Whether the guest's driver has set up the first ring."""
        self.in_kernel = False
        """Whether vhost runs the rings."""
        self._path = path
        self._ask = ask
        self._memory = GuestMemory(pid, ask)
        self._places: list[_Place] = []

    async def ask_features(self) -> None:
        """Ask for what stays as it is as long as the device is there."""
        self.is_packed, self.has_iommu = await asyncio.gather(
            self._has("packed"), self._has("iommu_platform")
        )

    async def ask_places(self) -> bool:
        """Ask where all rings are; return False if QEMU has no virtio device there."""
        asked = (self._status(number) for number in range(2 * self.plan.queues))
        told = await asyncio.gather(*asked)
        if told[0] is None:
            return False
        # Without multiqueue, the third ring is the control ring, and none is behind it.
        statuses = [one for one in (told[:2] if None in told else told) if one is not None]
        self._places = [_place(number, status) for number, status in enumerate(statuses)]
        self.is_up = self._places[0].size > 0
        self.in_kernel = "shadow-avail-idx" not in statuses[0]
        return True

    async def read(self) -> tuple[Ring, ...]:
        """Return all rings as they are now, if the places are as they were asked."""
        if self.has_iommu:
            return tuple(_ring(place, place.used, None) for place in self._places)
        there = [place for place in self._places if place.size]
        used, available = [one.used_at for one in there], [one.available_at for one in there]
        await self._memory.learn({*used, *available})
        # An available index that is read after the used one is never behind it.
        indices = await self._memory.indices(used) if self.in_kernel else self._memory.peek(used)
        indices |= await self._memory.indices(available)
        return tuple(self._from_memory(place, indices) for place in self._places)

    async def read_quickly(self) -> tuple[Ring, ...]:
        """Return all rings, at the places that were asked last; none if they are not there.

        QEMU is only asked if its memory cannot be read, and then once for each ring.
        """
        if self.has_iommu or not self.is_up:
            return await self._asked()
        there = [place for place in self._places if place.size]
        used, available = [one.used_at for one in there], [one.available_at for one in there]
        indices = self._memory.peek([*used, *available])
        if not indices.keys() >= {*used, *available}:
            return await self._asked()
        if not all(_is_plausible(place, indices) for place in there):
            return ()
        return tuple(self._from_memory(place, indices) for place in self._places)

    async def _asked(self) -> tuple[Ring, ...]:
        if self.in_kernel:
            used = {place.used_at for place in self._places if place.size}
            indices = await self._memory.indices(used)
            return tuple(_ring(place, indices.get(place.used_at), None) for place in self._places)
        if not await self.ask_places():
            return ()
        return tuple(_ring(place, place.used, None) for place in self._places)

    def _from_memory(self, place: _Place, indices: Mapping[int, int]) -> Ring:
        shown = None if self.in_kernel else place.used
        return _ring(place, indices.get(place.used_at, shown), indices.get(place.available_at))

    async def _status(self, number: int) -> Values | None:
        arguments: dict[str, object] = {"path": self._path, "queue": number}
        with contextlib.suppress(CommandRefused):
            told = await self._ask("x-query-virtio-queue-status", arguments)
            return told if isinstance(told, dict) else {}
        return None

    async def _has(self, name: str) -> bool:
        """Return whether the card offers a feature; a property that is not there is one less."""
        path = AT_ONCE.format(self.plan.card_id)
        with contextlib.suppress(CommandRefused):
            return await self._ask("qom-get", {"path": path, "property": name}) is True
        return False


async def find_rings(plan: CardPlan, ask: Ask, pid: int) -> CardRings | None:
    """Return the rings of the card of *plan* in the QEMU with *pid*; None if it is no virtio card.

    Raises:
        BpferryError: as *ask* does.
    """
    for pattern in PATHS:
        rings = CardRings(plan, pattern.format(plan.card_id), ask, pid)
        if await rings.ask_places():
            await rings.ask_features()
            return rings
    return None


def _place(number: int, status: Values) -> _Place:
    queue, is_transmit = divmod(number, 2)
    available_at = _number(status, "vring-avail")
    return _Place(
        queue=queue,
        direction=Direction.TRANSMIT if is_transmit else Direction.RECEIVE,
        size=_number(status, "vring-num") if available_at else 0,
        available_at=available_at,
        used_at=_number(status, "vring-used"),
        used=_number(status, "used-idx"),
    )


def _ring(place: _Place, used: int | None, available: int | None) -> Ring:
    if not place.size or used is None:
        return Ring(place.queue, place.direction, 0, 0, None)
    left = None if available is None else waiting(available, used, place.size)
    return Ring(place.queue, place.direction, place.size, used, left)


def _is_plausible(place: _Place, indices: Mapping[int, int]) -> bool:
    """Return whether this can be a ring, and not what a guest keeps there after a restart."""
    return (indices[place.available_at] - indices[place.used_at]) % INDICES <= place.size


def _number(status: Values, name: str) -> int:
    value = status.get(name)
    return value if isinstance(value, int) else 0
