# SPDX-License-Identifier: LGPL-2.1-or-later
"""What each device of a running VM holds besides itself, and when that is given back.

QEMU only asks the guest to let go of a device, and says DEVICE_DELETED once the guest has; only
then is what is behind the device removed. That may be long after a command gave up waiting.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from msgspec import Struct, field

from bpferry.domain.forms import in_form
from bpferry.errors import NotReady, QemuError
from bpferry.machine.control.hot_plug.places import ADD_ACPI, hears_of_devices
from bpferry.machine.control.hot_plug.steps import (
    UNDO_SECONDS,
    Command,
    Leftover,
    execute_all,
)
from bpferry.machine.control.life import RunningVm
from bpferry.machine.control.states import State
from bpferry.qemu.monitor import CommandRefused, Monitor

ALREADY: Final = "in the process of unplug"
"""What QEMU says if the guest was asked before and has not answered (qdev_unplug)."""

UNKNOWN: Final = "not found"
"""What QEMU says of a device that it does not have (find_device_state)."""

GUEST_REFUSED: Final = "DEVICE_UNPLUG_GUEST_ERROR"


class Holding(Struct):
    """One device that can be taken out."""

    id: str
    behind: tuple[Command, ...]
    """What removes what is behind it, once it is gone."""
    forget: Callable[[], Awaitable[None]]
    """Takes it out of the model, and closes what we have of it."""
    shown: str = ""
    """What its user calls it, if that is not its id."""
    waiting: list[asyncio.Future[None]] = field(default_factory=list)
    is_gone: bool = False
    """The guest has let go of it, and what is behind it is being removed."""

    @property
    def name(self) -> str:
        """What people are told that it is called."""
        return self.shown or self.id


class Holdings:
    """All devices of one VM that can be taken out."""

    def __init__(self, vm: RunningVm) -> None:
        self._vm = vm
        self._by_id: dict[str, Holding] = {}

    def add(self, holding: Holding) -> None:
        """Note a device that is in the VM now."""
        self._by_id[holding.id] = holding

    async def take_out(self, device_id: str, seconds: float) -> None:
        """Ask the guest to let go of a device, and wait until everything behind it is gone.

        Raises:
            NotReady: the guest refuses, or takes longer than *seconds*.
            QemuError: QEMU refuses.
        """
        holding = self._by_id[device_id]
        done = asyncio.get_running_loop().create_future()
        holding.waiting.append(done)
        try:
            await self._ask(holding)
            async with asyncio.timeout(seconds):
                await done
        except TimeoutError as error:
            message = f"the guest has not let go of '{holding.name}' within {seconds:g} s"
            raise NotReady(message, self._hint()) from error
        finally:
            holding.waiting.remove(done)

    async def _ask(self, holding: Holding) -> None:
        try:
            await self._vm.ask_qemu("device_del", {"id": holding.id})
        except CommandRefused as error:
            if UNKNOWN in str(error) and not holding.is_gone:
                # The guest has switched it off itself before anybody followed that.
                self._vm.begin(self._release(holding, self._vm.need_monitor()))
            elif ALREADY not in str(error):
                raise

    async def remove(self, leftover: Leftover, monitor: Monitor) -> None:
        """Take out a device that could not be plugged in, or of which QEMU has not said so yet.

        What is behind it is removed when the guest has let go of it; returns then.
        """
        self._vm.leftovers.add(leftover.id)
        holding = Holding(leftover.id, leftover.behind, leftover.forget)
        done = asyncio.get_running_loop().create_future()
        holding.waiting.append(done)
        self.add(holding)
        try:
            await monitor.execute("device_del", {"id": leftover.id})
        except CommandRefused as error:
            if UNKNOWN in str(error) and not holding.is_gone:
                await self._release(holding, monitor)
        except QemuError:
            # It has ended, and the device with it.
            self._vm.leftovers.discard(leftover.id)
            return
        try:
            async with asyncio.timeout(UNDO_SECONDS):
                await done
        except (TimeoutError, NotReady):
            # From now on, nobody waits, and the user is told when it is gone.
            holding.waiting.remove(done)

    def _hint(self) -> str:
        if self._vm.state is State.PAUSED:
            return "the VM is paused: let it continue (bpferry resume), and it may let go"
        if not hears_of_devices(self._vm.prepared.draft.context):
            hint = f"without ACPI, nothing tells the guest that it is to let go: {ADD_ACPI}"
            return in_form(hint, self._vm.prepared.document.kind)
        return (
            "it may be using the device, or its system may not be up yet; if it lets go later, the "
            "device is taken out then; you can repeat the command"
        )

    async def follow(self, monitor: Monitor) -> None:
        """Give back what each device held that the guest let go of, until QEMU ends."""
        async for event in monitor.events():
            holding = self._by_id.get(str(event.data.get("device")))
            if holding is not None and event.name == "DEVICE_DELETED":
                self._vm.begin(self._release(holding, monitor))
            elif holding is not None and event.name == GUEST_REFUSED:
                self._refused(holding)

    async def _release(self, holding: Holding, monitor: Monitor) -> None:
        if holding.is_gone:
            return
        holding.is_gone = True
        await execute_all(monitor, holding.behind)
        await holding.forget()
        self._vm.leftovers.discard(holding.id)
        # Not before: until then another command may ask for the device.
        self._by_id.pop(holding.id, None)
        for done in holding.waiting:
            if not done.done():
                done.set_result(None)
        self._vm.record.note(f"'{holding.name}' is out of the VM: the guest has let go of it")

    def _refused(self, holding: Holding) -> None:
        for done in holding.waiting:
            if not done.done():
                sentence = f"the guest refuses to let go of '{holding.name}'"
                done.set_exception(NotReady(sentence, "it may be using the device"))
