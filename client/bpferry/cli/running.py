# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry list, status, stop, pause, resume, reset: VMs that run."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from bpferry.cli import output
from bpferry.cli.table import format_table, in_memory_units, in_time_units
from bpferry.errors import BpferryError, all_in_one, harmless
from bpferry.machine.control.client import Control
from bpferry.machine.control.packets import records, texts
from bpferry.machine.control.running import Found, connect, find_running

HEADINGS: Final = ("NAME", "STATE", "UPTIME", "VCPUS", "MEMORY", "CARDS", "PID")

DONE: Final = {"pause": "is paused", "resume": "continues", "reset": "restarts"}
"""What a VM does after a command."""

ENDS: Final = "ends, as 'on-reboot' of its description says"
"""What some VMs do in place of a restart."""

SLOW_SECONDS: Final = 1.0
"""After which a user who waits is told what for."""

PLUGGED: Final = "; plugged in, until the VM ends"

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
        in_time_units(_number(told, "uptime_s")),
        str(told["vcpus"]),
        in_memory_units(_number(told, "memory")),
        str(told["cards"]),
        str(told["pid"]),
    )


def _number(values: Values, key: str) -> int:
    value = values.get(key, 0)
    return value if isinstance(value, int) else 0


def status(vm_name: str, *, as_json: bool) -> int:
    """Print all about one VM.

    Raises:
        NotRunning: there is no such VM.
    """
    with connect(vm_name) as control:
        told = control.ask("status")
    if as_json:
        output.print_json(dict(told))
    else:
        output.print_text(harmless("\n".join(_status_lines(told))))
    return 0


def _status_lines(told: Values) -> Iterator[str]:
    from bpferry.machine.in_force import describe  # noqa: PLC0415 - not for `bpferry list`

    uptime = in_time_units(_number(told, "uptime_s"))
    yield f"{told['name']}: {told['state']}, for {uptime}"
    yield f"  file      {told['file']}"
    memory = in_memory_units(_number(told, "memory"))
    yield f"  size      {output.count(_number(told, 'vcpus'), 'vCPU')}, {memory}"
    yield f"  pid       {told['pid']} (QEMU: {told['qemu_pid']})"
    for limit in records(told, "limits"):
        yield f"  limit     {describe(limit)}"
    for card in records(told, "cards"):
        yield from _card_lines(card)
    for disk in records(told, "disks"):
        plugged = PLUGGED if disk.get("plugged") else ""
        yield f"  {disk['target']:<9} {disk['device']}: {disk.get('file', 'no file')}{plugged}"
    endpoints = records(told, "endpoints")
    # Some have long names, such as that of a forwarded port.
    width = max((len(str(one["name"])) for one in endpoints), default=0)
    for endpoint in endpoints:
        yield f"  {endpoint['name']:<{max(width, 9)}} {_where(endpoint)}"
    for warning in texts(told, "warnings"):
        yield f"  warning   {warning}"


def _card_lines(card: Values) -> Iterator[str]:
    place = f"tap '{card['tap']}'" if "tap" in card else str(card["type"])
    if "bridge" in card:
        place += f" on bridge '{card['bridge']}'"
    queues = output.count(_number(card, "queues"), "queue")
    vhost = ", vhost" if card.get("vhost") else ""
    link = ", link down" if card.get("link") == "down" else ""
    plugged = PLUGGED if card.get("plugged") else ""
    yield f"  {card['id']:<9} {card['mac']}, {place}, {queues}{vhost}{link}{plugged}"
    yield f"            planned: {card['steering']} ({card['because']})"
    seen = str(card.get("seen", "")).partition(": ")[2]
    if seen:
        yield f"            seen:    {seen}"


def _where(endpoint: Values) -> str:
    if "path" in endpoint:
        return str(endpoint["path"])
    parts = (endpoint.get("host", "*"), endpoint.get("port", "?"))
    return ":".join(map(str, parts)) + f" ({endpoint.get('protocol', endpoint['kind'])})"


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
