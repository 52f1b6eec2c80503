# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry save and snapshot: a VM's memory in a file, and its disks at one moment."""

from pathlib import Path
from typing import Final

from bpferry.cli import output
from bpferry.cli.patience import ProgressLine, connect_patiently
from bpferry.errors import BpferryError, NotRunning
from bpferry.machine.control.client import Control
from bpferry.machine.control.packets import texts
from bpferry.machine.control.running import connect

LOOK_SECONDS: Final = 0.2
"""How often the VM is asked how far it is."""


def save(vm_name: str, file: str, *, replace: bool, as_json: bool) -> int:
    """Save the VM, and return when it has ended.

    Raises:
        NotRunning: there is no such VM.
        BpferryError: it could not be saved; it goes on.
    """
    path = Path(file).absolute()
    before = _identity(path)
    with connect_patiently(vm_name) as control:
        try:
            control.ask("save", path=str(path), replace=replace)
            _wait(control, path)
        except KeyboardInterrupt:
            _cancel(control)
            raise
    if _identity(path) in (None, before):
        # A file that --force was to replace may still be there.
        raise BpferryError(
            f"'{vm_name}' has ended, and was not saved", f"see: bpferry log {vm_name}"
        )
    if as_json:
        output.print_json({"name": vm_name, "file": str(path), "bytes": path.stat().st_size})
    else:
        output.print_text(f"'{vm_name}' is saved in '{path}'")
    return 0


def snapshot(vm_name: str, tag: str, *, as_json: bool) -> int:
    """Keep the content of the VM's disks, and print which those are.

    Raises:
        NotRunning: there is no such VM.
        BpferryError: a disk is in another format, or has a snapshot of this name.
    """
    with connect_patiently(vm_name) as control:
        told = control.ask("snapshot", tag=tag)
    if as_json:
        output.print_json({"name": vm_name, "tag": tag, **told})
        return 0
    for path in texts(told, "disks"):
        output.print_text(f"'{path}' has the snapshot '{tag}'")
    return 0


def _identity(path: Path) -> tuple[int, int] | None:
    """Return which file is at *path*; None if there is none, or none that we may see."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _wait(control: Control, path: Path) -> None:
    """Wait until the VM has ended, and show how far it is."""
    line = ProgressLine()
    try:
        while not control.wait_for_end(LOOK_SECONDS):
            told = _ask(control)
            if "end" in told:
                raise BpferryError(str(told["end"]), str(told.get("hint", "")))
            if "error" in told:
                raise _failed(control.vm_name, path, str(told["error"]))
            if told.get("total"):
                saved, total = (int(str(told[key])) >> 20 for key in ("bytes", "total"))
                line.show(f"saved {saved} MiB of at most {total} MiB")
    finally:
        line.end()


def _failed(vm_name: str, path: Path, cause: str) -> BpferryError:
    from bpferry.machine.remedies import find_remedy  # noqa: PLC0415 - for a save that fails only

    hint = find_remedy([cause], "QEMU")
    return BpferryError(f"cannot save '{vm_name}' to '{path}': {cause}", hint)


def _ask(control: Control) -> dict[str, object]:
    try:
        return dict(control.ask("saving"))
    except NotRunning:
        return {}


def _cancel(control: Control) -> None:
    """Let the guest continue, and wait until it is so."""
    output.say("cancelling: the guest continues")
    try:
        # On a connection of its own: a reply may be on its way on the other.
        with connect(control.vm_name) as own:
            own.ask("cancel-save")
            while _ask(own).get("active") and not own.wait_for_end(LOOK_SECONDS):
                pass
            if not own.wait_for_end(0):
                return
        cause = f"'{control.vm_name}' has ended"
    except NotRunning as error:
        cause = error.message
    output.say(f"that may be too late: {cause}; see whether the file is there")
