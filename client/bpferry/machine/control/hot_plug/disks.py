# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks of a VM that runs: plugged in, and taken out."""

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from bpferry.commandline.storage.drives import disks_of
from bpferry.domain.forms import in_form
from bpferry.domain.names import Named, listed
from bpferry.domain.remaining import total_of, without_entry
from bpferry.errors import BadInput
from bpferry.machine.control.hot_plug.card_draft import device_add
from bpferry.machine.control.hot_plug.disk_draft import (
    DiskCommands,
    WantedDisk,
    check,
    disk_commands,
    disk_of,
    nodes_in,
    removal_of,
    with_disk,
)
from bpferry.machine.control.hot_plug.holdings import Holding, Holdings
from bpferry.machine.control.hot_plug.places import Places
from bpferry.machine.control.hot_plug.steps import Command, all_or_none
from bpferry.machine.control.hot_plug.threads import in_thread
from bpferry.machine.control.inventory import disk_fields
from bpferry.machine.control.life import RunningVm
from bpferry.qemu.monitor import CommandRefused

if TYPE_CHECKING:
    from bpferry.domain.model.disks import Disk

MAX_SHOWN: Final = 8
"""Disks in a hint."""


class Disks:
    """The disks of one VM."""

    def __init__(self, vm: RunningVm, places: Places, holdings: Holdings) -> None:
        self._vm = vm
        self._places = places
        self._holdings = holdings
        self._ids: dict[str, str] = {}
        """QEMU's id of each disk, by target."""
        self._spent: set[str] = set()
        """Targets of disks that could not be plugged in: QEMU may keep a node of theirs."""
        nodes = list(nodes_in(vm.prepared.built.parts))
        for device in disks_of(vm.prepared.draft.context):
            self._hold(device, device.id, removal_of(nodes, device.value.target))

    async def attach(self, wanted: WantedDisk) -> dict[str, object]:
        """Plug in a disk, and return what it has become.

        Raises:
            BpferryError: it cannot be; nothing of it is left.
        """
        vm = self._vm
        whole = with_disk(vm, disk_of(wanted, vm.machine, self._spent))
        number = total_of(whole.disks) - 1
        (device,) = (one for one in listed(whole.disks, "disks") if one.number == number)
        commands = disk_commands(vm, whole)
        place = self._places.find(commands.device)
        # A disk of the host may be slow, and the loop does not wait for it.
        await in_thread(partial(check, vm, whole), lambda _: None)
        await self._tell(commands, place, device.value.target)
        # Meanwhile another device may have been taken out.
        vm.machine = with_disk(vm, device.value)
        removal = removal_of([dict(one.arguments) for one in commands.nodes], device.value.target)
        self._hold(device, commands.device.id, removal)
        disk = device.value
        vm.record.note(f"{disk.target} is plugged in: '{disk.file}' on {disk.bus}")
        told = {**disk_fields(vm, device), "bus": disk.bus}
        return {**told, "warnings": self._warn(disk.target, place)}

    def _warn(self, target: str, place: dict[str, object]) -> list[dict[str, str]]:
        """Say what its user should know of the disk *target* at *place*, and return it."""
        told = []
        for doubt in self._places.doubts(place):
            message, hint = f"{target}: {doubt.message}", self._in_form(doubt.hint)
            self._vm.record.warn(message, hint)
            told.append({"message": message, "hint": hint})
        return told

    def _in_form(self, text: str) -> str:
        return in_form(text, self._vm.prepared.document.kind)

    async def _tell(self, commands: DiskCommands, place: dict[str, object], target: str) -> None:
        device = commands.device
        try:
            async with all_or_none(self._vm, self._holdings) as steps:
                for node in commands.nodes:
                    name = {"node-name": node.arguments["node-name"]}
                    await steps.do(node, Command("blockdev-del", name))
                # Until QEMU has said no, or the guest has let go of it, nothing else goes there.
                self._places.take(device.id, place)
                self._ids[target] = device.id
                await steps.plug(device_add(device, place), partial(self._free, target, device.id))
        except BaseException as error:
            self._spent.add(target)
            if isinstance(error, CommandRefused):
                await self._free(target, device.id)
            raise

    async def _free(self, target: str, qemu_id: str) -> None:
        self._places.give_back(qemu_id)
        self._ids.pop(target, None)

    def _hold(self, device: "Named[Disk]", qemu_id: str, behind: tuple[Command, ...]) -> None:
        target = device.value.target
        self._ids[target] = qemu_id
        forget = partial(self._forget, device, qemu_id)
        self._holdings.add(Holding(qemu_id, behind, forget, target))

    async def _forget(self, device: "Named[Disk]", qemu_id: str) -> None:
        """Take the disk out of what is known of the VM."""
        await self._free(device.value.target, qemu_id)
        disks = without_entry(self._vm.machine.disks, device.number)
        self._vm.machine = msgspec.structs.replace(self._vm.machine, disks=disks)

    async def detach(self, target: str, seconds: float) -> dict[str, object]:
        """Take the disk *target* out.

        Raises:
            BpferryError: there is none, or the guest does not let go of it.
        """
        qemu_id = self._ids.get(target)
        if qemu_id is None:
            raise BadInput(f"'{self._vm.name}' has no disk '{target}'", _which(self._ids))
        await self._holdings.take_out(qemu_id, seconds)
        return {"target": target}


def _which(targets: Iterable[str]) -> str:
    names = list(targets)
    more = ", ..." if len(names) > MAX_SHOWN else ""
    return f"it has {', '.join(names[:MAX_SHOWN])}{more}" if names else "it has none"
