# SPDX-License-Identifier: LGPL-2.1-or-later
"""One card's steering and rings: from its maps, which are read as memory, and from QEMU.

QEMU is asked with x-query-virtio-queue-status (since 7.2, qapi/virtio.json), and never with
x-query-virtio-status: that ends QEMU 11.1.3 by an assertion (qapi/qapi-visit-core.c). Two indices
are left out that are needed here:

    vhost     the used index is the kernel's, and x-query-virtio-vhost-queue-status has none either,
              and knows only the first pair of queues (hw/virtio/virtio-qmp.c)
    the available index, as the guest wrote it last; QEMU shows the one that it looked at last

Both are in the guest's memory, at addresses that QEMU knows, and are read there with the monitor's
``xp``. With a vIOMMU these addresses are not those of memory, and in packed rings there are no such
indices: then it is said what cannot be counted.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from bpferry.domain.names import cards_of
from bpferry.errors import BadInput
from bpferry.machine.control.life import RunningVm
from bpferry.machine.control.server import Answer
from bpferry.qemu.monitor import CommandRefused
from bpferry.steering.observed import Observed, to_fields
from bpferry.steering.plan import Rung
from bpferry.steering.rings import Direction, Ring, waiting
from bpferry.steering.view import Seen, compare_plan, is_in_force
from bpferry_wire.codec import Fields

AT_ONCE: Final = "/machine/peripheral/{}"

PATHS: Final = ("/machine/peripheral/{}/virtio-backend", "/machine/peripheral/{}")
"""Where QEMU has the virtio device of a card: behind its bus, or on virtio-mmio at once."""

RING_HEAD: Final = re.compile(r": 0x[0-9a-f]{4} 0x(?P<index>[0-9a-f]{4})", re.ASCII)
"""What ``xp`` shows of a ring's first two words: its flags and its index."""

Values = Mapping[str, object]


class Queues:
    """Answers what is asked about the cards of *vm*."""

    def __init__(self, vm: RunningVm) -> None:
        self._vm = vm
        self._readers: dict[str, _Reader] = {}
        """By card, as of the last full look."""

    async def steering(self, fields: Fields) -> Answer:
        """Return all that is known of one card; or only how far its rings are, for a quick look."""
        card_id = fields.text("card")
        quick = fields.has("quick") and fields.boolean("quick")
        fields.done()
        observed = self._from_maps(card_id)
        reader = self._readers.get(card_id)
        if quick and reader is not None:
            # If the guest has restarted since, QEMU may have fewer rings.
            with contextlib.suppress(CommandRefused):
                return Answer(to_fields(await _count(observed, reader)))
        watch = self._vm.watches.get(card_id)
        if watch is not None:
            watch.look_again()
        return Answer(to_fields(await self._with_rings(observed)))

    def _from_maps(self, card_id: str) -> Observed:
        prepared = self._vm.prepared
        plan, maps = prepared.plans.get(card_id), prepared.maps.get(card_id)
        if plan is None:
            names = ", ".join(device.id for device in cards_of(self._vm.machine))
            raise BadInput(
                f"'{self._vm.name}' has no card '{card_id}'",
                f"it has these: {names}" if names else "it has no card at all",
            )
        steering = None if maps is None else maps.read()
        seen = Seen(steering, self._vm.record.fallbacks)
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
            steering=steering,
            in_force=is_in_force(plan, seen),
            difference="" if notice is None else notice.message,
            hint="" if notice is None else notice.hint,
        )

    async def _with_rings(self, observed: Observed) -> Observed:
        self._readers.pop(observed.card_id, None)
        device = await self._find_device(observed.card_id)
        if device is None:
            why = "QEMU shows no rings of this card: it is no virtio card, or this QEMU is too old"
            return replace(observed, uncounted=why)
        path, status = device
        if not _number(status, "vring-avail"):
            why = "the guest's driver is not up"
            in_force = True if observed.rung is Rung.NONE else None
            return replace(observed, in_force=in_force, difference="", hint="", uncounted=why)
        in_kernel = "shadow-avail-idx" not in status
        has_iommu = await self._has(observed.card_id, "iommu_platform")
        observed = replace(observed, driver=True)
        if await self._has(observed.card_id, "packed"):
            why = "its rings are packed, and have no index to count by"
            return replace(observed, uncounted=why)
        if in_kernel and has_iommu:
            why = "vhost counts in the guest's memory, and a vIOMMU hides where that is"
            return replace(observed, uncounted=why)
        pairs = await self._pairs(path, observed.queues)
        reader = _Reader(self._vm, path, pairs, in_kernel=in_kernel, reads_memory=not has_iommu)
        self._readers[observed.card_id] = reader
        rings = await reader.read_all()
        return replace(observed, rings=rings, time_ns=time.monotonic_ns())

    async def _find_device(self, card_id: str) -> tuple[str, Values] | None:
        """Return where QEMU has the card, and its first ring; None if it is no virtio device."""
        for pattern in PATHS:
            path = pattern.format(card_id)
            with contextlib.suppress(CommandRefused):
                return path, await _ask_ring(self._vm, path, 0)
        return None

    async def _pairs(self, path: str, queues: int) -> int:
        """Return how many pairs of rings there are: one, unless the control ring is behind all."""
        try:
            await _ask_ring(self._vm, path, 2 * queues)
        except CommandRefused:
            return 1
        return queues

    async def _has(self, card_id: str, name: str) -> bool:
        """Return whether the card offers a feature; a property that is not there is one less."""
        arguments: dict[str, object] = {"path": AT_ONCE.format(card_id), "property": name}
        with contextlib.suppress(CommandRefused):
            return await self._vm.ask_qemu("qom-get", arguments) is True
        return False


async def _ask_ring(vm: RunningVm, path: str, number: int) -> Values:
    arguments: dict[str, object] = {"path": path, "queue": number}
    told = await vm.ask_qemu("x-query-virtio-queue-status", arguments)
    return told if isinstance(told, dict) else {}


async def _count(observed: Observed, reader: "_Reader") -> Observed:
    rings = await reader.count_all()
    return replace(observed, driver=True, rings=rings, time_ns=time.monotonic_ns())


class _Reader:
    """Reads the rings of one card: all at the same time, since QEMU answers in order."""

    def __init__(
        self, vm: RunningVm, path: str, pairs: int, *, in_kernel: bool, reads_memory: bool
    ) -> None:
        self._vm = vm
        self._path = path
        self._places = [(queue, way) for queue in range(pairs) for way in Direction]
        self._used_at: dict[tuple[int, Direction], tuple[int, int]] = {}
        """Size of each ring, and where its used index is in the guest's memory."""
        self._in_kernel = in_kernel
        self._reads_memory = reads_memory

    async def read_all(self) -> tuple[Ring, ...]:
        """Return all rings."""
        return tuple(await asyncio.gather(*(self._read(*place) for place in self._places)))

    async def count_all(self) -> tuple[Ring, ...]:
        """Return all rings without what waits in them, which takes one command for each."""
        return tuple(await asyncio.gather(*(self._count(*place) for place in self._places)))

    async def _status(self, queue: int, direction: Direction) -> Values:
        number = 2 * queue + (direction is Direction.TRANSMIT)
        return await _ask_ring(self._vm, self._path, number)

    async def _count(self, queue: int, direction: Direction) -> Ring:
        if not self._in_kernel:
            status = await self._status(queue, direction)
            size = _number(status, "vring-num") if _number(status, "vring-avail") else 0
            return Ring(queue, direction, size, _number(status, "used-idx") if size else 0, None)
        size, address = self._used_at.get((queue, direction), (0, 0))
        used = await self._index_at(address) if size else None
        return Ring(queue, direction, 0 if used is None else size, used or 0, None)

    async def _read(self, queue: int, direction: Direction) -> Ring:
        status = await self._status(queue, direction)
        size, offered = _number(status, "vring-num"), _number(status, "vring-avail")
        if not offered:
            return Ring(queue, direction, 0, 0, None)
        used: int | None = _number(status, "used-idx")
        if self._in_kernel:
            address = _number(status, "vring-used")
            self._used_at[queue, direction] = (size, address)
            used = await self._index_at(address)
        available = await self._index_at(offered) if self._reads_memory else None
        if used is None:
            return Ring(queue, direction, 0, 0, None)
        left = None if available is None else waiting(available, used, size)
        return Ring(queue, direction, size, used, left)

    async def _index_at(self, address: int) -> int | None:
        """Return the index of the ring's part at *address* of the guest's memory."""
        line: dict[str, object] = {"command-line": f"xp /2hx {address:#x}"}
        shown = await self._vm.ask_qemu("human-monitor-command", line)
        found = RING_HEAD.search(str(shown))
        return None if found is None else int(found["index"], 16)


def _number(status: Values, name: str) -> int:
    value = status.get(name)
    return value if isinstance(value, int) else 0
