# SPDX-License-Identifier: LGPL-2.1-or-later
"""One card's steering and rings: from its maps, which are read as memory, and from QEMU.

QEMU is asked with x-query-virtio-status and, for each ring, x-query-virtio-queue-status (since 7.2,
qapi/virtio.json). These leave out two indices that are needed here:

    vhost     the used index is the kernel's, and x-query-virtio-vhost-queue-status has none either,
              and knows only the first pair of queues (hw/virtio/virtio-qmp.c)
    the available index, as the guest wrote it last; QEMU shows the one that it looked at last

Both are in the guest's memory, at addresses that QEMU knows, and are read there with the monitor's
``xp``. With a vIOMMU these addresses are not those of memory, and in packed rings there are no such
indices: then it is said what cannot be counted.
"""

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

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

DRIVER_OK: Final = "VIRTIO_CONFIG_S_DRIVER_OK"
PACKED: Final = "VIRTIO_F_RING_PACKED"
IOMMU: Final = "VIRTIO_F_IOMMU_PLATFORM"
"""The words with which QEMU begins a status and a feature (hw/virtio/virtio-qmp.c)."""

PATHS: Final = ("/machine/peripheral/{}/virtio-backend", "/machine/peripheral/{}")
"""Where QEMU has the virtio device of a card: behind its bus, or on virtio-mmio at once."""

RING_HEAD: Final = re.compile(r": 0x[0-9a-f]{4} 0x(?P<index>[0-9a-f]{4})", re.ASCII)
"""What ``xp`` shows of a ring's first two words: its flags and its index."""

Values = Mapping[str, object]


class Queues:
    """Answers what is asked about the cards of *vm*."""

    def __init__(self, vm: RunningVm) -> None:
        self._vm = vm

    async def steering(self, fields: Fields) -> Answer:
        """Return all that is known of one card; what is slow to change is looked at once more."""
        card_id = fields.text("card")
        fields.done()
        observed = self._from_maps(card_id)
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
        device = await self._find_device(observed.card_id)
        if device is None:
            why = "QEMU shows no rings of this card: it is no virtio card, or this QEMU is too old"
            return replace(observed, uncounted=why)
        path, status = device
        if not any(word.startswith(DRIVER_OK) for word in _words(status, "status", "statuses")):
            why = "the guest's driver is not up"
            in_force = True if observed.rung is Rung.NONE else None
            return replace(observed, in_force=in_force, difference="", hint="", uncounted=why)
        features = tuple(_words(status, "guest-features", "transports"))
        in_kernel = status.get("vhost-started") is True
        has_iommu = any(word.startswith(IOMMU) for word in features)
        observed = replace(observed, driver=True)
        if any(word.startswith(PACKED) for word in features):
            return replace(
                observed, uncounted="its rings are packed, and have no index to count by"
            )
        if in_kernel and has_iommu:
            why = "vhost counts in the guest's memory, and a vIOMMU hides where that is"
            return replace(observed, uncounted=why)
        pairs = min((_number(status, "num-vqs") or 1) // 2, observed.queues)
        reader = _Reader(self._vm, path, in_kernel=in_kernel, reads_memory=not has_iommu)
        rings = [await reader.read(queue, way) for queue in range(pairs) for way in Direction]
        return replace(observed, rings=tuple(rings), time_ns=time.monotonic_ns())

    async def _find_device(self, card_id: str) -> tuple[str, Values] | None:
        """Return where QEMU has the card, and its status; None if it is no virtio device."""
        for pattern in PATHS:
            path = pattern.format(card_id)
            try:
                status = await self._vm.ask_qemu("x-query-virtio-status", {"path": path})
            except CommandRefused:
                continue
            return (path, status) if isinstance(status, dict) else None
        return None


class _Reader:
    """Reads the rings of one card."""

    def __init__(self, vm: RunningVm, path: str, *, in_kernel: bool, reads_memory: bool) -> None:
        self._vm = vm
        self._path = path
        self._in_kernel = in_kernel
        self._reads_memory = reads_memory

    async def read(self, queue: int, direction: Direction) -> Ring:
        """Return one ring."""
        number = 2 * queue + (direction is Direction.TRANSMIT)
        arguments: dict[str, object] = {"path": self._path, "queue": number}
        told = await self._vm.ask_qemu("x-query-virtio-queue-status", arguments)
        status = told if isinstance(told, dict) else {}
        size, offered = _number(status, "vring-num"), _number(status, "vring-avail")
        if not offered:
            return Ring(queue, direction, 0, 0, None)
        used: int | None = _number(status, "used-idx")
        if self._in_kernel:
            used = await self._index_at(_number(status, "vring-used"))
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


def _words(status: Values, part: str, name: str) -> Iterator[str]:
    """Return the words that *status* lists under *name* in its *part*."""
    found = status.get(part)
    words = found.get(name) if isinstance(found, dict) else None
    return map(str, words if isinstance(words, list) else ())


def _number(status: Values, name: str) -> int:
    value = status.get(name)
    return value if isinstance(value, int) else 0
