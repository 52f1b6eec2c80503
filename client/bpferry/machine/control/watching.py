# SPDX-License-Identifier: LGPL-2.1-or-later
"""Follow the steering of cards for as long as they are in the VM."""

import asyncio

from bpferry.machine.card_watch import CardWatch
from bpferry.machine.control.life import RunningVm


def begin_watching(vm: RunningVm, card_id: str) -> None:
    """Follow the maps of the card *card_id*, if it has any. QEMU has to answer."""
    maps = vm.prepared.maps.get(card_id)
    if maps is None:
        return
    watch = CardWatch(vm.prepared.plans[card_id], maps, vm.record, vm.record.withdraw)
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
