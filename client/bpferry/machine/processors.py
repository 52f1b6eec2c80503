# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plug in processors of the guest before it runs, as libvirt does with those that can be removed.

QEMU lists the places for processors, each with the numbers of its socket, core, thread and so on
(qapi/machine.json, HotpluggableCPU). Sorted by these numbers, from the socket down to the thread,
they are the guest's processors from 0 on.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from bpferry.errors import QemuError

if TYPE_CHECKING:
    from bpferry.qemu.monitor import Monitor

LEVELS: Final = (
    "node-id",
    "socket-id",
    "die-id",
    "cluster-id",
    "module-id",
    "core-id",
    "thread-id",
)


async def plug_in(monitor: "Monitor", numbers: Sequence[int]) -> None:
    """Add the processors *numbers* of the guest, in this order.

    Raises:
        QemuError: QEMU rejects one.
    """
    if not numbers:
        return
    places = _places(await monitor.execute("query-hotpluggable-cpus"))
    for number in numbers:
        if number >= len(places):
            raise QemuError(f"QEMU has no slot for the guest's processor {number}")
        driver, place = places[number]
        arguments: dict[str, object] = {"driver": driver, "id": f"vcpu{number}", **place}
        await monitor.execute("device_add", arguments)


def _places(answer: object) -> list[tuple[str, dict[str, int]]]:
    """Return the driver of each processor and its place, by its number."""
    if not isinstance(answer, list):
        raise QemuError("QEMU's answer about its processors is not a list")
    found = []
    for record in answer:
        props = record.get("props") if isinstance(record, dict) else None
        if isinstance(props, dict):
            place = {name: props[name] for name in LEVELS if isinstance(props.get(name), int)}
            found.append((str(record.get("type")), place))
    return sorted(found, key=lambda one: [one[1].get(name, 0) for name in LEVELS[1:]])
