# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands to QEMU of which all take effect, or none.

A device is in the guest as soon as QEMU has it, and only the guest lets go of it again. So what is
behind a device is undone when it is gone, and that may be later.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import NamedTuple, Protocol

from bpferry.errors import BpferryError, QemuError
from bpferry.machine.control.life import CHANGE_SECONDS, Hangs, RunningVm
from bpferry.qemu.monitor import CommandRefused, Monitor

UNDO_SECONDS = 5.0
"""How long a command that has failed waits for what it has left in QEMU to be undone."""


class Command(NamedTuple):
    """One command of QMP."""

    name: str
    arguments: Mapping[str, object]


class Leftover(NamedTuple):
    """A device that QEMU may have, and that has to go."""

    id: str
    behind: tuple[Command, ...]
    """What removes what is behind it, once it is gone."""
    forget: Callable[[], Awaitable[None]]


class Remover(Protocol):
    """Takes out devices that could not be plugged in (``holdings``)."""

    async def remove(self, leftover: Leftover, monitor: Monitor) -> None:
        """Return when it is gone, with what is behind it."""


class Steps:
    """What was done so far, and how each step is undone."""

    def __init__(self, vm: RunningVm, remover: Remover) -> None:
        self._vm = vm
        self._remover = remover
        self._undoing: list[Command] = []
        self._device: tuple[str, Callable[[], Awaitable[None]]] | None = None

    async def give(self, name: str, fd: int) -> None:
        """Give QEMU a copy of *fd* under *name*, which a later step uses up.

        Raises:
            QemuError: it did not take it.
        """
        self._undoing.append(Command("closefd", {"fdname": name}))
        await self._vm.give_fd(name, fd, CHANGE_SECONDS)

    async def do(self, command: Command, undo: Command | None = None) -> None:
        """Do *command*, which *undo* undoes.

        Raises:
            QemuError: it failed. If QEMU did not answer, it may still do it, and undo it later.
        """
        if undo is not None:
            self._undoing.append(undo)
        try:
            await self._ask(command)
        except CommandRefused:
            if undo is not None:
                self._undoing.remove(undo)
            raise

    async def plug(self, command: Command, forget: Callable[[], Awaitable[None]]) -> None:
        """Add a device. If it has to be undone, *forget* is called when the device is gone.

        Raises:
            QemuError: as ``do``.
        """
        self._device = str(command.arguments["id"]), forget
        try:
            await self._ask(command)
        except CommandRefused:
            self._device = None
            raise

    async def _ask(self, command: Command) -> None:
        await self._vm.ask_qemu(command.name, dict(command.arguments), CHANGE_SECONDS)

    async def undo(self) -> str:
        """Undo all steps, the last one first, and return the device that stays, if one does.

        A QEMU that does not answer does it when it does.
        """
        monitor = self._vm.need_monitor()
        behind = tuple(reversed(self._undoing))
        if self._device is None:
            await asyncio.wait([self._vm.begin(execute_all(monitor, behind))], timeout=UNDO_SECONDS)
            return ""
        device_id, forget = self._device
        removing = self._remover.remove(Leftover(device_id, behind, forget), monitor)
        await asyncio.wait([self._vm.begin(removing)], timeout=UNDO_SECONDS)
        return device_id if device_id in self._vm.leftovers else ""


async def execute_all(monitor: Monitor, commands: tuple[Command, ...]) -> None:
    """Do what can be done of *commands*: an fd may be used up, and QEMU may have ended."""
    for command in commands:
        with contextlib.suppress(QemuError):
            await monitor.execute(command.name, dict(command.arguments))


@contextlib.asynccontextmanager
async def all_or_none(vm: RunningVm, remover: Remover) -> AsyncIterator[Steps]:
    """Undo the steps of the block if it fails."""
    steps = Steps(vm, remover)
    try:
        yield steps
    except asyncio.CancelledError:
        # The VM ends, and QEMU with it.
        raise
    except BaseException as error:
        stays = await steps.undo()
        if isinstance(error, BpferryError):
            error.hint = "; ".join(filter(None, (_explained(error, stays), error.hint)))
        raise


def _explained(error: BpferryError, stays: str) -> str:
    """Return what is still to be undone, in words."""
    if isinstance(error, Hangs):
        return "what QEMU does of it later is undone then"
    if stays:
        return f"'{stays}' stays in the VM until its guest lets go of it, and is taken out then"
    return ""
