# SPDX-License-Identifier: LGPL-2.1-or-later
"""The VMs of this user that run, found by their sockets.

A VM that was started without a login session has its runtime folder in another place than one with
a session (``machine.folders``), so both places are searched. A socket on which nobody listens is
what a killed bpferry left; the next VM of that name removes it.
"""

import contextlib
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from bpferry.errors import BpferryError, NotRunning
from bpferry.machine.control.client import ANSWER_SECONDS, Control, NobodyThere
from bpferry.machine.control_socket import SOCKET_NAME
from bpferry.machine.folders import folder_name, is_folder_name, runtime_folders
from bpferry.machine.own_vms import own_names

LIST_SECONDS: Final = 2.0
"""For each VM to answer a list; one that is stopped (SIGSTOP) never does."""

MAX_SHOWN: Final = 5
"""Names in a hint."""


class Found(NamedTuple):
    """One VM that runs."""

    name: str
    summary: Mapping[str, object]
    """What it says of itself; empty if it does not answer."""
    problem: str = ""
    """Why it does not answer."""


def find_running() -> list[Found]:
    """Return all VMs of this user that run, by name."""
    with contextlib.ExitStack() as stack:
        # All are asked before the first answer is waited for, so that they answer side by side.
        asked = [(path.parent.name, _ask(path, stack)) for path in _sockets()]
        found = [_look(name, control) for name, control in asked]
    return sorted(filter(None, found), key=lambda one: one.name)


def connect(vm_name: str, seconds: float = ANSWER_SECONDS) -> Control:
    """Connect to the VM called *vm_name*, which has *seconds* for each answer.

    Raises:
        NotRunning: there is none.
    """
    for folder in runtime_folders():
        path = folder / folder_name(vm_name) / SOCKET_NAME
        with contextlib.suppress(NobodyThere):
            return Control(vm_name, path, seconds)
    raise _deaf(vm_name) or NotRunning(f"no VM '{vm_name}' of yours is running", _hint(vm_name))


def _sockets() -> Iterator[Path]:
    for folder in runtime_folders():
        with contextlib.suppress(OSError):
            for path in sorted(folder.glob(f"*/{SOCKET_NAME}")):
                if is_folder_name(path.parent.name):
                    yield path


def _ask(path: Path, stack: contextlib.ExitStack) -> Control | BpferryError:
    """Ask one VM what it is; return the connection, which *stack* closes, or what went wrong."""
    try:
        control = stack.enter_context(Control(path.parent.name, path, LIST_SECONDS))
        control.send("summary")
    except BpferryError as error:
        return error
    return control


def _look(name: str, asked: Control | BpferryError) -> Found | None:
    try:
        if isinstance(asked, BpferryError):
            raise asked
        summary = asked.receive()
    except NobodyThere:
        return None
    except BpferryError as error:
        return Found(name, {}, error.message)
    return Found(str(summary.get("name", name)), summary)


def _deaf(vm_name: str) -> NotRunning | None:
    """Return what to tell of a VM that runs and has no socket any more, if it does."""
    from bpferry.machine.name_lock import find_conflict  # noqa: PLC0415 - rarely needed

    conflict = find_conflict(vm_name)
    if conflict is None:
        return None
    return NotRunning(
        f"'{vm_name}' cannot be asked: its control socket is gone, and {conflict.message}",
        conflict.hint,
    )


def _start(vm_name: str) -> str:
    if vm_name in own_names():
        return f"start it: bpferry run {shlex.quote(vm_name)}"
    return "start one: bpferry run FILE"


def _hint(vm_name: str) -> str:
    names = [found.name for found in find_running()]
    if not names:
        return f"none of your VMs is running; {_start(vm_name)}"
    if vm_name in own_names():
        return _start(vm_name)
    import difflib  # noqa: PLC0415 - rarely needed

    close = difflib.get_close_matches(vm_name, names, n=1)
    if close:
        return f"do you mean '{close[0]}'? All that run: bpferry list"
    more = ", ..." if len(names) > MAX_SHOWN else ""
    return f"these run: {', '.join(names[:MAX_SHOWN])}{more}"
