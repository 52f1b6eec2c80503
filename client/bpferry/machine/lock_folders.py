# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether the name of a VM can be locked, so that no second one is started (name_lock).

There are two places. Without both, a VM does not start; without one, it starts with a warning.
Nothing is made to find out, so what a file system refuses when it is asked is not noticed here.
"""

from collections.abc import Iterator
from pathlib import Path

from bpferry.errors import BpferryError, NotReady
from bpferry.machine.faults import Fault
from bpferry.machine.listening import check_owner
from bpferry.machine.making import why_not_inside
from bpferry.machine.name_lock import KEY, files_of, less_certain, unlockable
from bpferry.machine.paths import exists


def find_unlockable(vm_name: str) -> Iterator[NotReady]:
    """Yield that the VM *vm_name* cannot be locked anywhere, if it cannot."""
    causes = [_why_not(path.parent) for path in files_of(vm_name)]
    if all(causes):
        yield unlockable(vm_name, causes[0])


def find_half_locked(vm_name: str) -> Iterator[Fault]:
    """Yield that it can be locked in one place only, if that is so."""
    causes = [_why_not(path.parent) for path in files_of(vm_name)]
    if any(causes) and not all(causes):
        message, fix = less_certain(vm_name, next(filter(None, causes)))
        yield Fault(KEY, "warning", message, fix=fix, kind="host")


def _why_not(folder: Path) -> str:
    """Return why no file can be made in *folder*, which may be missing; empty if one can."""
    cause, _ = why_not_inside(folder)
    if cause:
        return f"cannot make the folder '{folder}': {cause}"
    for part in (*reversed(folder.absolute().parents), folder.absolute()):
        if not exists(part):
            break
        try:
            check_owner(part)
        except BpferryError as error:
            return error.message
    return ""
