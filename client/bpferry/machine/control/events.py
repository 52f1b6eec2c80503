# SPDX-License-Identifier: LGPL-2.1-or-later
"""What happens in a guest: in words for its user, and what follows from it.

QEMU itself does most of what a description wants: it ends, resets or pauses the VM. What it cannot
do is to restart a guest that has crashed, so it pauses that guest and we reset it. A guest that was
stopped by its crash runs again after any reset, as a machine does whose reset button was pressed.

A guest can cause its events as often as it likes, so each is told once from one reset to the next.
"""

import shlex
import time
from collections.abc import Mapping
from typing import Final

from bpferry.domain.forms import either, in_form
from bpferry.domain.model.machine import Machine
from bpferry.errors import BpferryError
from bpferry.machine.control.life import RunningVm
from bpferry.machine.control.states import State
from bpferry.qemu.monitor import Event

NOTES: Final = {
    "RESET": "the VM restarts",
    "SHUTDOWN": "the VM shuts down",
    "STOP": "the VM is paused",
    "RESUME": "the VM continues",
}
"""Events that nobody is surprised by (qapi/run-state.json)."""

ENDS: Final = {
    "guest-reset": "the guest has restarted, which ends the VM",
    "guest-panic": "the VM ends since its guest has crashed",
}
"""What is told of the end of a VM, by QEMU's reason for it."""

WATCHDOG: Final = {
    "reset": "the VM restarts",
    "shutdown": "the guest is asked to power down",
    "poweroff": "the VM ends",
    "pause": "the VM is paused",
    "none": "nothing follows",
    "inject-nmi": "the guest gets an NMI",
}
"""What QEMU does when a watchdog runs out, by the event's action."""

OWN_RESET: Final = "subsystem-reset"
"""The reason of a reset of a part of the machine, which is none of the VM."""

BY_GUEST: Final = "guest-reset"

FIRMWARE_SECONDS: Final = 5.0
"""SeaBIOS resets a machine once more where it has run before: 0.1 s after the reset, and later on a
busy host. So a guest's reset this soon after another is part of it."""


class GuestEvents:
    """Follows the events of one VM."""

    def __init__(self, vm: RunningVm) -> None:
        self._vm = vm
        self._told: set[str] = set()
        self._reset_s = -FIRMWARE_SECONDS
        """When the last reset was told."""
        self._starts = vm.prepared.incoming is None
        """Whether QEMU is still paused for us, before the guest runs for the first time."""

    async def follow(self, event: Event) -> None:
        """Take note of *event*, tell the user, and do what the description wants."""
        crashed = self._vm.state is State.CRASHED
        self._vm.follow(event.name)
        if event.name == "RESET":
            self._told.clear()
        self._tell(event)
        if self._vm.stopper.begun:
            # The guest is to end, and not to restart.
            return
        if event.name == "GUEST_PANICKED" and self._vm.machine.on_crash == "restart":
            await self._ask("system_reset")
        elif event.name == "RESET" and crashed:
            await self._ask("cont")

    def _tell(self, event: Event) -> None:
        if event.name == "RESUME" and self._starts:
            self._starts = False
        elif event.name == "RESET" and self._is_firmware(event):
            return
        elif (note := _note(event)) is not None:
            # QEMU also stops a guest that has crashed or moved, which is told in other words.
            if event.name != "STOP" or self._vm.state not in (State.CRASHED, State.MOVING):
                self._vm.record.note(note)
        elif event.name not in self._told and (warning := _warning(event, self._vm)) is not None:
            self._told.add(event.name)
            self._vm.record.warn(*warning)

    def _is_firmware(self, event: Event) -> bool:
        """Return whether this reset belongs to one that was told; if not, it is told now."""
        now, before = time.monotonic(), self._reset_s
        if event.data.get("reason") == BY_GUEST and now - before < FIRMWARE_SECONDS:
            return True
        if event.data.get("reason") != OWN_RESET:
            self._reset_s = now
        return False

    async def _ask(self, command: str) -> None:
        try:
            await self._vm.ask_qemu(command)
        except BpferryError as error:
            self._vm.record.warn(f"the guest cannot be restarted: {error.message}", error.hint)


def _note(event: Event) -> str | None:
    reason = str(event.data.get("reason", ""))
    if event.name == "RESET" and reason == OWN_RESET:
        return None
    if event.name == "SHUTDOWN":
        return ENDS.get(reason, NOTES["SHUTDOWN"])
    return NOTES.get(event.name)


def _warning(event: Event, vm: RunningVm) -> tuple[str, str] | None:
    """Return what went wrong in the guest or below it, and what to do; None if nothing did."""
    match event.name:
        case "GUEST_PANICKED":
            text, hint = _crash(vm.machine, shlex.quote(vm.name))
            return text, in_form(hint, vm.prepared.document.kind)
        case "GUEST_CRASHLOADED":
            return "the guest's kernel has crashed, and its crash kernel takes over", ""
        case "WATCHDOG":
            follows = WATCHDOG.get(str(event.data.get("action")), "QEMU acts on it")
            return f"the guest has not reset its watchdog in time: {follows}", ""
        case "BLOCK_IO_ERROR" if event.data.get("action") == "stop":
            return _disk_error(event.data, shlex.quote(vm.name))
    return None


def _crash(machine: Machine, name: str) -> tuple[str, str]:
    said = "the guest has crashed: its kernel reports a panic"
    if machine.on_crash == "restart":
        return f"{said}, and the VM restarts", ""
    if machine.on_crash == "preserve":
        hint = f"restart it: bpferry reset {name}; end it: bpferry stop {name}"
        return f"{said}; the VM is stopped, and kept as it is", hint
    setting = either('on-crash = "preserve"', "<on_crash>preserve</on_crash>")
    return said, f"to keep such a VM for a look, write {setting}; to restart it, 'restart'"


def _disk_error(data: Mapping[str, object], name: str) -> tuple[str, str]:
    disk = data.get("device") or data.get("node-name") or "a disk"
    if data.get("nospace"):
        said = f"'{disk}' is full on the host, and the VM is paused"
        return said, f"make room, and let it continue: bpferry resume {name}"
    said = f"QEMU cannot {data.get('operation', 'use')} '{disk}', and the VM is paused"
    return f"{said}: {data.get('reason', 'unknown error')}", f"then: bpferry resume {name}"
