# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry start, restart, enable, disable: VMs under the user's own systemd."""

import contextlib
import getpass
from typing import Final

from bpferry.cli import output
from bpferry.errors import BpferryError, NotReady, NotRunning
from bpferry.machine import user_manager
from bpferry.machine.control.packets import texts
from bpferry.machine.control.running import connect
from bpferry.machine.own_vms import check_name, find_description
from bpferry.machine.user_manager import Unit

ERROR: Final = "bpferry: error: "
HINT: Final = "bpferry: hint: "

STATUSES: Final = (1, 2, 3, 4, 5)
"""Those of `bpferry run` before QEMU runs."""


class StartFailed(BpferryError):  # noqa: N818 - as in errors: the words say it
    """A VM did not start; the status is that of its `bpferry run`."""

    def __init__(self, message: str, hint: str, status: int) -> None:
        super().__init__(message, hint)
        self.status = status  # type: ignore[misc]  # of this one


def start(vm_name: str, *, as_json: bool) -> int:
    """Start a VM and return when its guest runs; say what its `bpferry run` has warned of.

    Raises:
        NoManager: there is no systemd to start it.
        BpferryError: it does not start.
    """
    find_description(vm_name)
    unit = user_manager.look_at(vm_name)
    if unit.is_active:
        return _tell(vm_name, "runs already", unit, as_json=as_json)
    _refuse_foreground(vm_name, "start")
    return _bring_up(vm_name, unit, "start", "runs", as_json=as_json)


def restart(vm_name: str, *, as_json: bool) -> int:
    """Power a VM down if it runs, start it, and return when its guest runs.

    Raises:
        NoManager: there is no systemd to start it.
        BpferryError: it does not start, or runs in somebody's terminal.
    """
    find_description(vm_name)
    unit = user_manager.look_at(vm_name)
    if not unit.is_active:
        _refuse_foreground(vm_name, "restart")
    return _bring_up(vm_name, unit, "restart", "runs", as_json=as_json)


def enable(vm_name: str, *, as_json: bool) -> int:
    """Let a VM be started with the user's systemd.

    Raises:
        BpferryError: there is no such VM, or no systemd.
    """
    find_description(vm_name)
    unit = user_manager.look_at(vm_name)
    user_manager.change("--quiet", "enable", unit.name)
    lingers = user_manager.has_linger()
    when = "when this host starts" if lingers else "when you log in"
    return _tell(vm_name, f"is started {when}", user_manager.look_at(vm_name), as_json=as_json)


def disable(vm_name: str, *, as_json: bool) -> int:
    """Start a VM only when somebody asks for it; a VM that runs goes on.

    Raises:
        BpferryError: there is no systemd.
    """
    check_name(vm_name)
    unit = user_manager.look_at(vm_name)
    user_manager.change("--quiet", "disable", unit.name)
    unit = user_manager.look_at(vm_name)
    runs = "; it runs until it is stopped" if unit.is_active else ""
    if as_json:
        output.print_json(_fields(vm_name, unit))
    else:
        output.print_text(f"'{vm_name}' is not started by itself any more{runs}")
    return 0


def _refuse_foreground(vm_name: str, verb: str) -> None:
    """Refuse a VM that a `bpferry run` of another session has."""
    with contextlib.suppress(NotRunning), connect(vm_name) as control:
        pid = control.ask("summary").get("pid", "?")
        raise NotReady(
            f"'{vm_name}' runs already, by a 'bpferry run' that your systemd did not start "
            f"(process {pid})",
            f"stop it first: bpferry stop {vm_name}; then: bpferry {verb} {vm_name}",
        )


def _bring_up(vm_name: str, unit: Unit, verb: str, words: str, *, as_json: bool) -> int:
    reporter = output.StderrReporter()
    now = user_manager.start_and_wait(unit, verb, reporter.progress)
    if now.is_active:
        warnings = _warnings(vm_name)
        if not as_json:
            for warning in warnings:
                reporter.warn(warning)
        return _tell(vm_name, words, now, as_json=as_json, warnings=warnings)
    user_manager.give_up(now)
    raise _failure(vm_name, now)


def _warnings(vm_name: str) -> tuple[str, ...]:
    """Return what `bpferry run` has warned of, which went to the journal: a card without eBPF."""
    with contextlib.suppress(NotRunning), connect(vm_name) as control:
        return texts(control.ask("status"), "warnings")
    return ()


def _failure(vm_name: str, unit: Unit) -> BpferryError:
    """Return why the VM did not start, in the words of its `bpferry run`."""
    said = user_manager.last_words(unit)
    cause = next((line.removeprefix(ERROR) for line in said if line.startswith(ERROR)), "")
    hint = next((line.removeprefix(HINT) for line in said if line.startswith(HINT)), "")
    see = f"all that it said: bpferry log {vm_name}"
    status = unit["ExecMainStatus"]
    if status == "0":
        return StartFailed(f"'{vm_name}' started and has ended already", see, 1)
    number = int(status) if status.isdecimal() and int(status) in STATUSES else 1
    what = f"'{vm_name}' did not start"
    message = f"{what}: {cause}" if cause else f"{what}: bpferry run ended with status {status}"
    return StartFailed(message, f"{hint}; {see}" if hint else see, number)


def _tell(vm_name: str, words: str, unit: Unit, *, as_json: bool, **more: object) -> int:
    if as_json:
        output.print_json({**_fields(vm_name, unit), **more})
        return 0
    output.print_text(f"'{vm_name}' {words}")
    if not user_manager.has_linger():
        output.say(
            "the VM ends with your last session; to let it run without one, also after the host "
            f"restarts: sudo loginctl enable-linger {getpass.getuser()}"
        )
    return 0


def _fields(vm_name: str, unit: Unit) -> dict[str, object]:
    return {
        "name": vm_name,
        "unit": unit.name,
        "running": unit.is_active,
        "enabled": unit.is_enabled,
        "lingers": user_manager.has_linger(),
    }
