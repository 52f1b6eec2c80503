# SPDX-License-Identifier: LGPL-2.1-or-later
"""Follow the steering of cards for as long as they are in the VM."""

import asyncio

from bpferry.machine.card_watch import CardWatch
from bpferry.machine.control.card_rings import find_rings
from bpferry.machine.control.inventory import tap_of
from bpferry.machine.control.life import RunningVm
from bpferry.network.sysfs import count_queues
from bpferry.steering.view import Seen


class CardSight:
    """What is to be seen of one card of *vm*."""

    def __init__(self, vm: RunningVm, card_id: str) -> None:
        self._vm = vm
        self._card_id = card_id
        self._maps = vm.prepared.maps.get(card_id)
        self._tap = tap_of(vm, card_id)

    def look(self) -> Seen:
        """Return its maps and its tap as they are now."""
        return Seen(
            None if self._maps is None else self._maps.read(),
            switched_on=count_queues(self._tap) if self._tap else None,
        )

    async def is_up(self) -> bool:
        """Return whether the guest's driver is up."""
        plan = self._vm.prepared.plans[self._card_id]
        rings = await find_rings(plan, self._vm.ask_qemu, self._vm.qemu_pid)
        return rings is not None and rings.is_up


def begin_watching(vm: RunningVm, card_id: str) -> None:
    """Follow the maps of the card *card_id*, if it has any. QEMU has to answer."""
    if card_id not in vm.prepared.maps:
        return
    sight = CardSight(vm, card_id)
    watch = CardWatch(vm.prepared.plans[card_id], sight, vm.record, vm.record.withdraw)
    vm.watches[card_id] = watch
    vm.watching[card_id] = asyncio.create_task(watch.run(vm.need_monitor().execute))


async def stop_watching(vm: RunningVm, card_id: str) -> None:
    """Do not look at the card *card_id* any more, and forget what was seen of it."""
    vm.watches.pop(card_id, None)
    task = vm.watching.pop(card_id, None)
    if task is not None:
        task.cancel()
        await asyncio.wait([task])
    vm.record.steering.pop(card_id, None)
