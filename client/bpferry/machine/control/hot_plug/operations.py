# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a running VM can be asked about its cards and disks.

    attach-nic   card: JSON of its keys in the native form; source, xml, require-ebpf
    detach-nic   card, seconds
    set-link     card, up
    attach-disk  path, format, bus, block-device, read-only
    detach-disk  target, seconds

One device is plugged in at a time, so that two commands never get the same place. A command that
waits for the guest to let go keeps no other waiting.

What plugs cards is imported if the VM has cards or gets one, and the same for disks: a supervisor
has it in memory for as long as the VM runs.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from functools import cached_property
from typing import TYPE_CHECKING, Final

import msgspec

from bpferry.errors import NotReady
from bpferry.machine.control.hot_plug.holdings import Holdings
from bpferry.machine.control.hot_plug.places import Places
from bpferry.machine.control.life import RunningVm
from bpferry.machine.control.server import Answer, Operation
from bpferry.qemu.monitor import Monitor
from bpferry_wire.codec import Fields
from bpferry_wire.errors import BadMessage

if TYPE_CHECKING:
    from bpferry.domain.model.cards import Card
    from bpferry.machine.control.hot_plug.cards import Cards
    from bpferry.machine.control.hot_plug.disks import Disks

TURN_SECONDS: Final = 60.0
"""How long a device waits for the one before it."""

MAX_WAIT_S: Final = 600
"""The longest time that a guest may be given to let go of a device."""


class HotPlug:
    """What is plugged into one VM, and taken out of it."""

    def __init__(self, vm: RunningVm) -> None:
        prepared = vm.prepared
        self._vm = vm
        self._holdings = Holdings(vm)
        self._places = Places(prepared.draft.context, prepared.built.devices)
        # Those of the start are held from now on: the guest may let go of one by itself.
        self._of_start = (
            self._cards if vm.machine.cards else None,
            self._disks if vm.machine.disks else None,
        )

    @cached_property
    def _cards(self) -> "Cards":
        from bpferry.machine.control.hot_plug.cards import Cards  # noqa: PLC0415 - see above

        return Cards(self._vm, self._places, self._holdings)

    @cached_property
    def _disks(self) -> "Disks":
        from bpferry.machine.control.hot_plug.disks import Disks  # noqa: PLC0415 - see above

        return Disks(self._vm, self._places, self._holdings)

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "attach-nic": self._attach_nic,
            "detach-nic": self._detach_nic,
            "set-link": self._set_link,
            "attach-disk": self._attach_disk,
            "detach-disk": self._detach_disk,
        }

    async def follow(self, monitor: Monitor) -> None:
        """Give back what devices held that the guest let go of, until QEMU ends."""
        await self._holdings.follow(monitor)

    @contextlib.asynccontextmanager
    async def _plugging(self) -> AsyncIterator[None]:
        """Be the only one who plugs a device in."""
        lock = self._vm.plugging
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await lock.acquire()
        except TimeoutError as error:
            message = f"another device is being plugged into '{self._vm.name}', which takes long"
            raise NotReady(message, "QEMU, a helper or a disk may be slow; try again") from error
        try:
            self._vm.check_settled()
            yield
        finally:
            lock.release()

    async def _attach_nic(self, fields: Fields) -> Answer:
        from bpferry.machine.control.hot_plug.card_draft import Wanted  # noqa: PLC0415 - see above

        wanted = Wanted(
            _decode(fields.text("card")),
            fields.text("source"),
            "xml" if fields.boolean("xml") else "toml",
            fields.boolean("require-ebpf"),
        )
        fields.done()
        async with self._plugging():
            return Answer(await self._cards.attach(wanted))

    async def _detach_nic(self, fields: Fields) -> Answer:
        name, seconds = fields.text("card"), fields.integer("seconds", 1, MAX_WAIT_S)
        fields.done()
        self._vm.check_settled()
        return Answer(await self._cards.detach(name, seconds))

    async def _set_link(self, fields: Fields) -> Answer:
        name, up = fields.text("card"), fields.boolean("up")
        fields.done()
        self._vm.check_settled()
        return Answer(await self._cards.set_link(name, up=up))

    async def _attach_disk(self, fields: Fields) -> Answer:
        from bpferry.machine.control.hot_plug.disk_draft import WantedDisk  # noqa: PLC0415 - as above

        values: dict[str, object] = {
            **{key: fields.text(key) for key in ("path", "format", "bus")},
            "is_block_device": fields.boolean("block-device"),
            "read_only": fields.boolean("read-only"),
        }
        fields.done()
        try:
            wanted = msgspec.convert(values, WantedDisk)
        except msgspec.ValidationError as error:
            raise BadMessage(f"it is no disk: {error}") from error
        async with self._plugging():
            return Answer(await self._disks.attach(wanted))

    async def _detach_disk(self, fields: Fields) -> Answer:
        target, seconds = fields.text("target"), fields.integer("seconds", 1, MAX_WAIT_S)
        fields.done()
        self._vm.check_settled()
        return Answer(await self._disks.detach(target, seconds))


def _decode(text: str) -> "Card":
    from bpferry.domain.model.cards import Card  # noqa: PLC0415 - as above

    try:
        return msgspec.convert(json.loads(text), Card)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"'card' is not a card: {error}") from error
