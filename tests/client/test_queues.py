# SPDX-License-Identifier: LGPL-2.1-or-later
"""A card's rings, asked from QEMU: with and without vhost, a vIOMMU, packed rings, no driver."""

import asyncio
import ctypes
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Final, cast

import msgspec
import pytest

from bpferry.errors import BadInput
from bpferry.machine.control.life import RunningVm
from bpferry.machine.control.queues import Queues
from bpferry.qemu.monitor import CommandRefused
from bpferry.steering.observed import Observed, from_fields
from bpferry.steering.plan import CardPlan, Rung
from bpferry.steering.rings import Direction, Ring
from bpferry_wire.codec import Fields
from bpferry_wire.errors import BadMessage
from tests.client.support import CARD, MACHINE

RECEIVE, TRANSMIT = Direction.RECEIVE, Direction.TRANSMIT
BEHIND_PCI: Final = "/machine/peripheral/net0/virtio-backend"
AT_ONCE: Final = "/machine/peripheral/net0"
PLAN: Final = CardPlan("net0", Rung.QEMU, vhost=False, queues=2, because=("it can",))
OFFERED, USED = 0x1000, 0x2000
"""Where rings are in the guest's memory: for each, so many bytes further."""


class Qemu:
    """Answers as QEMU does, about a card with two queues; the rings' indices are set by tests."""

    def __init__(self, path: str = BEHIND_PCI) -> None:
        self.path = path
        self.vhost = False
        self.properties: set[str] = set()
        """Those of the card that are on."""
        self.used = [5, 6, 7, 8]
        self.memory = {OFFERED: 261, OFFERED + 1: 6, OFFERED + 2: 7, OFFERED + 3: 10}
        self.moved = 0
        """How far the rings have moved in memory."""
        self.set_up = 4
        """How many rings the guest has set up."""
        self.most = 5
        """How many rings QEMU knows."""
        self.places: dict[int, int] = {}
        """Where parts of the guest's memory are in the process; nowhere, unless a test says so."""
        self.indices = memoryview(b"")
        """Those in the memory of this process."""
        self.asked: list[str] = []

    async def ask(self, command: str, arguments: dict[str, object]) -> object:
        """Answer a command."""
        self.asked.append(command)
        if command == "human-monitor-command":
            return self.monitor(*str(arguments["command-line"]).split())
        if command == "qom-get":
            return arguments["property"] in self.properties
        assert command == "x-query-virtio-queue-status", "others may end QEMU"
        if arguments["path"] != self.path:
            raise CommandRefused(f"Path {arguments['path']} is not a VirtIODevice")
        number = arguments["queue"]
        assert isinstance(number, int)
        if number >= self.most:
            raise CommandRefused(f"Invalid virtqueue number {number}")
        there = number < self.set_up
        return {
            "vring-num": 256,
            "vring-avail": OFFERED + self.moved + number if there else 0,
            "vring-used": USED + self.moved + number if there else 0,
            "used-idx": [*self.used, 0][number],
            **({} if self.vhost else {"shadow-avail-idx": 0}),
        }

    def monitor(self, verb: str, *words: str) -> str:
        """Answer a command of the human monitor."""
        address = int(words[-1], 16)
        if verb == "gpa2hva":
            place = self.places.get(address)
            if place is None:
                return f"Memory at address {address:#x} is not RAM\r\n"
            return f"Host virtual address for {address:#x} (pc.ram) is {place:#x}\r\n"
        low, high = self.memory[address].to_bytes(2, "little")
        return f"{address:016x}: 0x01 0x00 0x{low:02x} 0x{high:02x}\r\n"

    def map_memory(self) -> memoryview:
        """Have the rings' heads in the memory of this process; return their indices, to be set."""
        heads = (ctypes.c_uint16 * (2 * len(self.memory)))()
        start = ctypes.addressof(heads)
        for number, (address, index) in enumerate(sorted(self.memory.items())):
            heads[2 * number + 1] = index
            self.places[address] = start + 4 * number
        self.indices = memoryview(heads).cast("B").cast("H")[1::2]
        return self.indices


def vm_with(qemu: Qemu, plan: CardPlan = PLAN) -> RunningVm:
    """Return a VM, as far as it is asked here."""
    machine = msgspec.structs.replace(MACHINE, cards=(CARD,), vcpus=2)
    prepared = SimpleNamespace(plans={"net0": plan}, maps={}, taps={})
    return cast(
        "RunningVm",
        SimpleNamespace(
            name="web",
            machine=machine,
            prepared=prepared,
            watches={},
            record=SimpleNamespace(fallbacks=()),
            ask_qemu=qemu.ask,
            qemu_pid=os.getpid(),
        ),
    )


def observe(qemu: Qemu) -> Observed:
    """Return what is answered about the card."""
    fields = Fields({"card": "net0"}, "the request")
    answer = asyncio.run(Queues(vm_with(qemu)).steering(fields))
    return from_fields({key: value for key, value in answer.fields.items() if value is not None})


@pytest.mark.parametrize("path", [BEHIND_PCI, AT_ONCE])
def test_rings_have_their_indices_and_what_waits(path: str) -> None:
    """The used index is QEMU's own; the available one is read where the guest wrote it."""
    card = observe(Qemu(path))

    assert card.driver
    assert (
        Ring(0, RECEIVE, 256, 5, 256),
        Ring(0, TRANSMIT, 256, 6, 0),
        Ring(1, RECEIVE, 256, 7, 0),
        Ring(1, TRANSMIT, 256, 8, 2),
    ) == card.rings


def test_with_vhost_the_used_index_is_read_where_the_kernel_wrote_it() -> None:
    """QEMU's own index stays where it was when vhost began."""
    qemu = Qemu()
    qemu.vhost = True
    qemu.memory |= {USED + ring: 100 + ring for ring in range(4)}

    assert [100, 101, 102, 103] == [ring.used for ring in observe(qemu).rings]


def test_with_a_viommu_nothing_is_read_from_memory() -> None:
    """QEMU's indices are enough to count packets, and what waits is not known."""
    qemu = Qemu()
    qemu.properties = {"iommu_platform"}
    card = observe(qemu)

    assert [(5, None), (6, None), (7, None), (8, None)] == [(r.used, r.waiting) for r in card.rings]
    assert "human-monitor-command" not in qemu.asked


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"set_up": 0}, "the guest's driver is not up"),
        ({"properties": {"packed"}}, "its rings are packed"),
        ({"properties": {"iommu_platform"}, "vhost": True}, "a vIOMMU hides"),
    ],
)
def test_what_cannot_be_counted_is_said(changed: dict[str, object], why: str) -> None:
    """In words, and no ring is made up."""
    qemu = Qemu()
    vars(qemu).update(changed)
    card = observe(qemu)

    assert why in card.uncounted
    assert () == card.rings


def test_a_card_that_is_no_virtio_card_has_no_rings() -> None:
    """Nor has any card of a QEMU that does not know the question."""
    card = observe(Qemu("/elsewhere"))

    assert "no virtio card" in card.uncounted


def test_rings_that_the_guest_has_not_set_up_are_empty() -> None:
    """A guest with one processor uses one of two queues."""
    qemu = Qemu()
    qemu.set_up = 2

    assert [256, 256, 0, 0] == [ring.size for ring in observe(qemu).rings]


def test_a_guest_without_multiqueue_has_one_pair() -> None:
    """QEMU counts its rings anew then: the third is the control ring, and no receive queue."""
    qemu = Qemu()
    qemu.most = 3

    assert [0, 0] == [ring.queue for ring in observe(qemu).rings]


def with_memory(*, vhost: bool = True) -> Qemu:
    """Return a QEMU whose rings are in memory, in order: available indices, then used ones."""
    qemu = Qemu()
    qemu.vhost = vhost
    qemu.memory = {OFFERED: 261, OFFERED + 1: 101, OFFERED + 2: 102, OFFERED + 3: 103}
    qemu.memory |= {USED + ring: 100 + ring for ring in range(4)}
    return qemu


def looks(
    qemu: Qemu, *between: Callable[[], None], quick: bool = True, vm: RunningVm | None = None
) -> list[Observed]:
    """Return what looks at the card show: a full one, and after each of *between* another one."""

    async def look() -> list[Observed]:
        queues, seen = Queues(vm or vm_with(qemu)), []
        for number, do in enumerate((lambda: None, *between)):
            do()
            fields = Fields({"card": "net0", "quick": quick and number > 0}, "the request")
            told = (await queues.steering(fields)).fields
            seen.append(from_fields({k: v for k, v in told.items() if v is not None}))
        return seen

    return asyncio.run(look())


@pytest.mark.parametrize("vhost", [True, False])
def test_a_quick_look_asks_once_for_each_ring(*, vhost: bool) -> None:
    """Its indices are those of a full look, which has asked for all the rest."""
    qemu = Qemu()
    qemu.vhost = vhost
    qemu.memory |= {USED + ring: 100 + ring for ring in range(4)}
    full, quick = looks(qemu, qemu.asked.clear)

    assert [ring[:4] for ring in full.rings] == [ring[:4] for ring in quick.rings]
    assert ["human-monitor-command" if vhost else "x-query-virtio-queue-status"] * 4 == qemu.asked


def test_a_quick_look_after_the_guest_has_restarted_is_a_full_one() -> None:
    """QEMU refuses to tell of rings that a guest without multiqueue does not have."""
    qemu = Qemu()

    def restart() -> None:
        qemu.most = 3

    _, quick = looks(qemu, restart)

    assert [0, 0] == [ring.queue for ring in quick.rings]


@pytest.mark.parametrize("vhost", [True, False])
def test_a_quick_look_asks_nothing_where_memory_can_be_read(*, vhost: bool) -> None:
    """QEMU does nothing for it, and it shows as much as a full look."""
    qemu = with_memory(vhost=vhost)
    indices = qemu.map_memory()

    def go_on() -> None:
        qemu.asked.clear()
        indices[0], indices[4] = 300, 263

    full, quick = looks(qemu, go_on)

    assert (RECEIVE, 256, 261 - 100) == (*full.rings[0][1:3], full.rings[0].waiting)
    assert [263, 101, 102, 103] == [ring.used for ring in quick.rings]
    assert 300 - 263 == quick.rings[0].waiting
    assert [] == qemu.asked


def test_a_full_look_asks_each_time_where_the_rings_are_and_nothing_else() -> None:
    """A guest may move them, and nobody tells. What stays as it is is asked once."""
    qemu = with_memory()
    qemu.map_memory()
    looks(qemu, qemu.asked.clear, quick=False)

    assert ["x-query-virtio-queue-status"] * 4 == qemu.asked


def test_rings_that_have_moved_are_read_where_they_are_now() -> None:
    """A driver that was loaded anew has others."""
    qemu = with_memory()
    qemu.map_memory()

    def move() -> None:
        qemu.moved = 0x100
        qemu.memory |= {address + 0x100: 7 for address in qemu.memory}

    full, moved = looks(qemu, move, quick=False)

    assert [100, 101, 102, 103] == [ring.used for ring in full.rings]
    assert [7, 7, 7, 7] == [ring.used for ring in moved.rings]


def test_places_where_no_rings_are_any_more_are_forgotten() -> None:
    """A guest that moves its rings all the time does not fill our memory."""
    qemu = with_memory()
    qemu.map_memory()

    def move() -> None:
        qemu.moved = 0x100
        qemu.memory |= {address + 0x100: 7 for address in qemu.memory}

    def move_back() -> None:
        qemu.moved = 0
        qemu.asked.clear()

    looks(qemu, move, move_back, quick=False)

    assert "human-monitor-command" in qemu.asked, "their places are asked for once more"


def test_memory_that_is_no_ring_any_more_is_not_counted() -> None:
    """A guest has restarted, and keeps something else there: a quick look becomes a full one."""
    qemu = with_memory()
    indices = qemu.map_memory()

    def restart() -> None:
        qemu.asked.clear()
        indices[0], indices[4] = 1, 40000

    looks(qemu, restart)

    assert "x-query-virtio-queue-status" in qemu.asked


def test_a_place_that_does_not_show_what_qemu_shows_is_not_believed() -> None:
    """Such as if the process is not QEMU itself: then QEMU is asked each time."""
    qemu = with_memory()
    indices = qemu.map_memory()
    indices[4] = 999
    full, quick = looks(qemu, lambda: None)

    assert [100, 101, 102, 103] == [ring.used for ring in full.rings]
    assert [100, 101, 102, 103] == [ring.used for ring in quick.rings]


@pytest.mark.parametrize("pid", [0, 1 << 22])
def test_memory_that_may_not_be_read_is_asked_for(pid: int) -> None:
    """A process that is not there stands for one that we may not look into."""
    qemu = with_memory()
    qemu.map_memory()
    vm = vm_with(qemu)
    vars(vm)["qemu_pid"] = pid
    full, quick = looks(qemu, lambda: None, vm=vm)

    assert [100, 101, 102, 103] == [ring.used for ring in full.rings]
    assert [100, 101, 102, 103] == [ring.used for ring in quick.rings]


def test_another_card_with_the_same_id_is_asked_about_anew() -> None:
    """One was taken out, and the next one plugged in is packed."""
    qemu = with_memory()
    vm = vm_with(qemu)

    def replug() -> None:
        qemu.properties = {"packed"}
        vm.prepared.plans["net0"] = msgspec.structs.replace(PLAN)

    _, after = looks(qemu, replug, vm=vm)

    assert "packed" in after.uncounted


def test_a_card_that_is_not_there_is_refused_with_those_that_are() -> None:
    """The hint has the ids."""
    fields = Fields({"card": "net9"}, "the request")

    with pytest.raises(BadInput, match="no card 'net9'") as caught:
        asyncio.run(Queues(vm_with(Qemu())).steering(fields))

    assert "net0" in caught.value.hint


def test_an_unknown_field_is_refused() -> None:
    """What a newer command asks for is not ignored."""
    fields = Fields({"card": "net0", "key": "no"}, "the request")

    with pytest.raises(BadMessage):
        asyncio.run(Queues(vm_with(Qemu())).steering(fields))
