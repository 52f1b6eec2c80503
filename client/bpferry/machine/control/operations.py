# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a running VM can be asked.

    summary   name, state, uptime and size, from memory: QEMU is not asked
    status    the same and all else: cards, disks, endpoints, warnings
    stop      power the guest down, or end QEMU
    pause, resume, reset
    steering  one card: what spreads its packets, and how far its rings are (``queues``)

Each operation takes its fields, so that one that it does not know is refused, and returns as soon
as QEMU has answered.
"""

import os
import shlex
from typing import Final

from bpferry.commandline.parts import Limit
from bpferry.machine.control.inventory import cards, disks
from bpferry.machine.control.life import RunningVm
from bpferry.machine.control.packets import without_none
from bpferry.machine.control.queues import Queues
from bpferry.machine.control.screen import Screen
from bpferry.machine.control.server import Answer, Operation
from bpferry.machine.endpoints import fields as endpoint_fields
from bpferry.machine.in_force import group_of, look
from bpferry_wire.codec import Fields

MAX_TIMEOUT_S: Final = 86_400
"""The longest time that a guest may be given to power down: a day."""


def operations(vm: RunningVm) -> dict[str, Operation]:
    """Return all operations on *vm*, by name."""
    commands = _Commands(vm)
    return {
        "summary": commands.summary,
        "status": commands.status,
        "stop": commands.stop,
        "pause": commands.pause,
        "resume": commands.resume,
        "reset": commands.reset,
        "steering": Queues(vm).steering,
        **Screen(vm).operations(),
    }


class _Commands:
    """The operations that every VM has."""

    def __init__(self, vm: RunningVm) -> None:
        self._vm = vm

    async def summary(self, fields: Fields) -> Answer:
        fields.done()
        return Answer(summary_of(self._vm))

    async def status(self, fields: Fields) -> Answer:
        fields.done()
        return Answer({**summary_of(self._vm), **_details(self._vm)})

    async def stop(self, fields: Fields) -> Answer:
        force = fields.boolean("force")
        seconds = fields.integer("seconds", 1, MAX_TIMEOUT_S) if fields.has("seconds") else None
        fields.done()
        if force:
            self._vm.stopper.quit()
        else:
            name = shlex.quote(self._vm.name)
            self._vm.stopper.power_down(seconds, f"'bpferry stop --force {name}' ends it at once")
        return Answer()

    async def pause(self, fields: Fields) -> Answer:
        return await self._tell(fields, "stop")

    async def resume(self, fields: Fields) -> Answer:
        return await self._tell(fields, "cont")

    async def reset(self, fields: Fields) -> Answer:
        answer = await self._tell(fields, "system_reset")
        ends = self._vm.machine.on_reboot == "destroy"
        return Answer({**answer.fields, "ends": ends})

    async def _tell(self, fields: Fields, command: str) -> Answer:
        fields.done()
        self._vm.check_settled()
        await self._vm.ask_qemu(command)
        return Answer({"state": str(self._vm.state)})


def summary_of(vm: RunningVm) -> dict[str, object]:
    """Return what a list of VMs shows."""
    machine = vm.machine
    return {
        "name": machine.name,
        "state": str(vm.state),
        "uptime_s": vm.uptime_s,
        "vcpus": machine.vcpus,
        "memory": machine.memory,
        "cards": len(machine.cards),
        "pid": os.getpid(),
        "qemu_pid": vm.qemu_pid,
        "file": str(vm.prepared.document.origins.path.absolute()),
    }


def _details(vm: RunningVm) -> dict[str, object]:
    from bpferry.machine.serials import ports_of  # noqa: PLC0415 - not for a VM that only runs

    return {
        "limits": look(group_of(vm.qemu_pid), vm.prepared.built.of(Limit)),
        "cards": cards(vm),
        "disks": disks(vm),
        "consoles": [one.name for one in ports_of(vm.machine, vm.record.endpoints) if one.is_open],
        "endpoints": [without_none(endpoint_fields(one)) for one in vm.record.endpoints],
        "warnings": list(vm.record.warnings),
    }
