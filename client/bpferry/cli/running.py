# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry list, stop, pause, resume, reset: VMs that run."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Final

from bpferry.cli import output
from bpferry.cli.table import format_table, in_memory_units, in_time_units, number
from bpferry.errors import BpferryError, all_in_one
from bpferry.machine.control.client import Control
from bpferry.machine.control.running import Found, connect, find_running

HEADINGS: Final = ("NAME", "STATE", "UPTIME", "VCPUS", "MEMORY", "CARDS", "PID")

DONE: Final = {"pause": "is paused", "resume": "continues", "reset": "restarts"}
"""What a VM does after a command."""

ENDS: Final = "ends, as 'on-reboot' of its description says"
"""What some VMs do in place of a restart."""

SLOW_SECONDS: Final = 1.0
"""After which a user who waits is told what for."""

Values = Mapping[str, object]


def list_all(*, as_json: bool) -> int:
    """Print the VMs of this user that run."""
    found = find_running()
    if as_json:
        output.print_json({"vms": [_listed(one) for one in found]})
    elif not found:
        output.print_text("none of your VMs is running")
    else:
        output.print_text(format_table(HEADINGS, [_row(one) for one in found]))
    for one in found:
        if one.problem:
            output.say(f"warning: {one.problem}")
    return 0


def _listed(found: Found) -> dict[str, object]:
    return {**found.summary} if found.summary else {"name": found.name, "state": "not answering"}


def _row(found: Found) -> tuple[str, ...]:
    told = found.summary
    if not told:
        return (found.name, "not answering", "", "", "", "", "")
    return (
        found.name,
        str(told["state"]),
        in_time_units(number(told, "uptime_s")),
        str(told["vcpus"]),
        in_memory_units(number(told, "memory")),
        str(told["cards"]),
        str(told["pid"]),
    )


def change(command: str, vm_name: str, *, as_json: bool) -> int:
    """Pause, resume or reset a VM.

    Raises:
        NotRunning: there is no such VM.
        BpferryError: QEMU refuses.
    """
    with connect(vm_name) as control:
        told = control.ask(command)
    if as_json:
        output.print_json({"name": vm_name, **told})
    else:
        done = ENDS if told.get("ends") else DONE[command]
        output.print_text(f"'{vm_name}' {done}")
    return 0


def stop(names: Sequence[str], *, force: bool, timeout_s: int | None, as_json: bool) -> int:
    """Power VMs down, all at the same time, and wait until they have ended.

    Raises:
        BpferryError: one of them does not run, or could not be asked. The others are stopped.
    """
    errors: list[BpferryError] = []
    with contextlib.ExitStack() as stack:
        asked: list[Control] = []
        for vm_name in names:
            try:
                control = stack.enter_context(connect(vm_name))
                control.ask("stop", force=force, seconds=timeout_s)
            except BpferryError as error:
                errors.append(error)
            else:
                asked.append(control)
        for control in asked:
            _wait(control, force=force)
            if not as_json:
                output.print_text(f"'{control.vm_name}' has ended")
    if errors:
        raise all_in_one(errors)
    if as_json:
        output.print_json({"ended": list(names)})
    return 0


def _wait(control: Control, *, force: bool) -> None:
    reporter = output.StderrReporter()
    if not control.wait_for_end(SLOW_SECONDS):
        what = "QEMU to end" if force else "its guest to power down"
        reporter.progress(f"waiting for '{control.vm_name}': for {what}")
        control.wait_for_end(None)
