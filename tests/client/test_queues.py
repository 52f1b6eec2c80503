# SPDX-License-Identifier: LGPL-2.1-or-later
"""A card's rings, asked from QEMU: with and without vhost, a vIOMMU, packed rings, no driver."""

import asyncio
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
        self.set_up = 4
        """How many rings the guest has set up."""
        self.most = 5
        """How many rings QEMU knows."""
        self.asked: list[str] = []

    async def ask(self, command: str, arguments: dict[str, object]) -> object:
        """Answer a command."""
        self.asked.append(command)
        if command == "human-monitor-command":
            address = int(str(arguments["command-line"]).split()[-1], 16)
            return f"{address:016x}: 0x0001 0x{self.memory[address]:04x}\r\n"
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
            "vring-avail": OFFERED + number if there else 0,
            "vring-used": USED + number if there else 0,
            "used-idx": [*self.used, 0][number],
            **({} if self.vhost else {"shadow-avail-idx": 0}),
        }


def vm_with(qemu: Qemu, plan: CardPlan = PLAN) -> RunningVm:
    """Return a VM, as far as it is asked here."""
    machine = msgspec.structs.replace(MACHINE, cards=(CARD,), vcpus=2)
    prepared = SimpleNamespace(plans={"net0": plan}, maps={})
    return cast(
        "RunningVm",
        SimpleNamespace(
            name="web",
            machine=machine,
            prepared=prepared,
            watches={},
            record=SimpleNamespace(fallbacks=()),
            ask_qemu=qemu.ask,
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


def looks(qemu: Qemu, between: Callable[[], None]) -> list[Observed]:
    """Return what several looks at the card show; *between* is done after the first one."""

    async def look() -> list[Observed]:
        queues, seen = Queues(vm_with(qemu)), []
        for number, is_quick in enumerate((False, True)):
            fields = Fields({"card": "net0", "quick": is_quick}, "the request")
            told = (await queues.steering(fields)).fields
            seen.append(from_fields({k: v for k, v in told.items() if v is not None}))
            if not number:
                between()
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
