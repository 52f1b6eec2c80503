# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands to QEMU of which all take effect, or none."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

from bpferry.errors import QemuError
from bpferry.machine.control.life import QEMU_SECONDS, RunningVm
from bpferry.qemu.monitor import CommandRefused, Monitor


class Command(NamedTuple):
    """One command of QMP."""

    name: str
    arguments: Mapping[str, object]


class Steps:
    """What was done so far, and how each step is undone."""

    def __init__(self, vm: RunningVm) -> None:
        self._vm = vm
        self._undoing: list[Command] = []

    async def give(self, name: str, fd: int) -> None:
        """Give QEMU a copy of *fd* under *name*, which a later step uses up.

        Raises:
            QemuError: it did not take it.
        """
        self._undoing.append(Command("closefd", {"fdname": name}))
        await self._vm.give_fd(name, fd)

    async def do(self, command: Command, undo: Command | None = None) -> None:
        """Do *command*, which *undo* undoes.

        Raises:
            QemuError: it failed. If QEMU did not answer, it may still do it, and undo it later.
        """
        if undo is not None:
            self._undoing.append(undo)
        try:
            await self._vm.ask_qemu(command.name, dict(command.arguments))
        except CommandRefused:
            if undo is not None:
                self._undoing.remove(undo)
            raise

    async def undo(self) -> None:
        """Undo all steps, the last one first. A QEMU that does not answer does it when it does."""
        monitor = self._vm.need_monitor()
        work = self._vm.begin(execute_all(monitor, tuple(reversed(self._undoing))))
        await asyncio.wait([work], timeout=QEMU_SECONDS)


async def execute_all(monitor: Monitor, commands: tuple[Command, ...]) -> None:
    """Do what can be done of *commands*: an fd may be used up, and QEMU may have ended."""
    for command in commands:
        with contextlib.suppress(QemuError):
            await monitor.execute(command.name, dict(command.arguments))


@contextlib.asynccontextmanager
async def all_or_none(vm: RunningVm) -> AsyncIterator[Steps]:
    """Undo the steps of the block if it fails."""
    steps = Steps(vm)
    try:
        yield steps
    except asyncio.CancelledError:
        # The VM ends, and QEMU with it.
        raise
    except BaseException:
        await steps.undo()
        raise
