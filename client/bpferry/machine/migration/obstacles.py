# SPDX-License-Identifier: LGPL-2.1-or-later
"""What keeps a VM from moving to another host while it runs.

What QEMU cannot move it says itself (``blocked-reasons`` of query-migrate). Here is what it would
move, or try to, and what would be missing afterwards.
"""

from collections.abc import Iterator

from bpferry.domain.model.machine import Machine
from bpferry.errors import BpferryError, NotReady, Unsupported, all_in_one
from bpferry.machine.differences import find_difference
from bpferry.qemu.monitor import Monitor

WHILE_STOPPED = "move it while it does not run"


def check_movable(machine: Machine, described: Machine, file: str) -> None:
    """Raise what is in the way of *machine*, which *file* has *described*.

    Raises:
        NotReady: something can be changed about it.
        Unsupported: it cannot move while it runs.
    """
    found = [*_changed(machine, described, file), *_bound(machine)]
    if found:
        raise all_in_one(found)


def _changed(machine: Machine, described: Machine, file: str) -> Iterator[NotReady]:
    changed = find_difference(machine, described)
    if any(changed):
        yield NotReady(
            f"'{machine.name}' cannot move: {changed}, and the other host would start the VM that "
            f"'{file}' describes",
            changed.way_out(machine.name, file),
        )


def _bound(machine: Machine) -> Iterator[BpferryError]:
    """Yield what binds a VM to the host."""
    what = f"'{machine.name}' cannot move while it runs"
    if machine.host_devices:
        yield Unsupported(
            f"{what}: it has a device of this host (hostdev), which stays here", WHILE_STOPPED
        )
    if machine.tpms:
        yield Unsupported(
            f"{what}: the state of its TPM is in files of this host, which are not moved",
            f"{WHILE_STOPPED}, with those files",
        )
    for card in machine.cards:
        if card.type == "ethernet":
            yield Unsupported(
                f"{what}: its card on the tap '{card.tap}' needs that tap, which somebody has made "
                "here",
                "use a card on a bridge, for which bpferry asks for a tap at the other host",
            )


async def check_unblocked(monitor: Monitor, vm_name: str) -> None:
    """Raise Unsupported if QEMU says that something of the VM cannot move.

    Raises:
        QemuError: it has ended.
    """
    answer = await monitor.execute("query-migrate")
    reasons = answer.get("blocked-reasons") if isinstance(answer, dict) else None
    if isinstance(reasons, list) and reasons:
        raise Unsupported(
            f"'{vm_name}' cannot move while it runs: QEMU says: {'; '.join(map(str, reasons))}",
            WHILE_STOPPED,
        )
