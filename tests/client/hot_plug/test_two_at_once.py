# SPDX-License-Identifier: LGPL-2.1-or-later
"""A device that is taken out while another one is plugged in."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from bpferry.commandline.parts import Device
from bpferry.domain.model.cards import Card
from bpferry.domain.model.machine import Machine
from bpferry.domain.remaining import without_entry
from bpferry.machine.control.hot_plug import disks
from bpferry.machine.control.hot_plug.disk_draft import DiskCommands, WantedDisk
from bpferry.machine.control.hot_plug.holdings import Holding, Holdings
from bpferry.qemu.monitor import CommandRefused


def test_a_card_that_went_while_a_disk_came_stays_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the VM would list a card of which nothing is known."""
    machine = Machine(name="t", memory=2**26, cards=(Card(type="user"),))
    prepared = SimpleNamespace(
        built=SimpleNamespace(parts=()),
        draft=SimpleNamespace(context=None),
        document=SimpleNamespace(machine=machine),
    )
    record = SimpleNamespace(note=lambda _: None)
    vm = cast("Any", SimpleNamespace(machine=machine, prepared=prepared, name="t", record=record))

    async def tell(*_: object) -> None:
        left = without_entry(vm.machine.cards, 0)
        vm.machine = msgspec.structs.replace(vm.machine, cards=left)

    commands = DiskCommands(Device("virtio-blk-pci", "disk0", "disks[0]"), ())
    monkeypatch.setattr(disks, "disks_of", lambda _context: ())
    monkeypatch.setattr(disks, "disk_commands", lambda _vm, _whole: commands)
    monkeypatch.setattr(disks, "check", lambda _vm, _whole: None)
    monkeypatch.setattr(disks.Disks, "_tell", tell)
    holdings = SimpleNamespace(add=lambda _: None)
    places = SimpleNamespace(find=lambda _: {}, doubts=lambda _: ())
    plugged = disks.Disks(vm, cast("Any", places), cast("Any", holdings))
    wanted = WantedDisk("/data.img", "raw", "virtio", is_block_device=False, read_only=False)
    asyncio.run(plugged.attach(wanted))
    assert vm.machine.cards == ()
    assert [disk.file for disk in vm.machine.disks] == ["/data.img"]


def test_two_commands_that_take_out_the_same_card_are_both_answered() -> None:
    """The second may come when the guest has let go, and what is behind it is still there."""

    async def ask_qemu(_command: str, _arguments: object) -> None:
        raise CommandRefused("'qemu' refused 'device_del': Device 'net0' not found")

    async def take_out() -> None:
        record = SimpleNamespace(note=lambda _: None)
        vm = SimpleNamespace(ask_qemu=ask_qemu, record=record, leftovers=set())
        holdings = Holdings(cast("Any", vm))

        async def forget() -> None:
            with pytest.raises(CommandRefused, match="not found"):
                await holdings.take_out("net0", 5)

        holding = Holding("net0", (), forget)
        holding.waiting.append(asyncio.get_running_loop().create_future())
        holdings.add(holding)
        await holdings._release(holding, cast("Any", None))

    asyncio.run(take_out())
