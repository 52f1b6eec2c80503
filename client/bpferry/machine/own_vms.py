# SPDX-License-Identifier: LGPL-2.1-or-later
"""The descriptions of a user's VMs, each found by the VM's name alone.

They are in one folder, NAME.toml or NAME.xml, so that a systemd unit can name its VM, and so that
``bpferry start web`` in any folder means the same VM.
"""

import re
from pathlib import Path
from typing import Final

from bpferry.errors import BadInput
from bpferry.machine.folders import MAX_NAME, vms_folder

KINDS: Final = (".toml", ".xml")

NAME: Final = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
"""Characters that the instance of a systemd unit has as they are (systemd.unit(5))."""

MAX_SHOWN: Final = 5
"""Names in a hint."""


def description_of(word: str) -> Path:
    """Return the file that *word* means: a path, or the name of a VM of this user.

    A path has a slash or the suffix of a description.

    Raises:
        BadInput: there is no such VM.
    """
    path = Path(word)
    return path if "/" in word or path.suffix in KINDS or path.exists() else find_description(word)


def find_description(vm_name: str) -> Path:
    """Return the description of the VM called *vm_name*.

    Raises:
        BadInput: it has none, or two, or it cannot be a name.
    """
    check_name(vm_name)
    found = [path for kind in KINDS if (path := vms_folder() / f"{vm_name}{kind}").exists()]
    if len(found) > 1:
        one, other = found
        raise BadInput(
            f"there are two descriptions of the VM '{vm_name}': '{one}' and '{other}'",
            "remove one of them, or give it another name",
        )
    if not found:
        raise BadInput(
            f"there is no VM '{vm_name}': '{vms_folder()}' has no {vm_name}.toml or {vm_name}.xml",
            _hint(vm_name),
        )
    return found[0]


def check_name(vm_name: str) -> None:
    """Make sure that a file and a unit can be called *vm_name*.

    Raises:
        BadInput: they cannot.
    """
    if not re.fullmatch(NAME, vm_name) or len(vm_name) > MAX_NAME:
        raise BadInput(
            f"'{vm_name}' cannot be the name of a VM in '{vms_folder()}'",
            f"use up to {MAX_NAME} letters, digits, '.', '_' and '-', with no '.' or '-' at the "
            "start; or start the VM by the path of its description: bpferry run FILE",
        )


def own_names() -> list[str]:
    """Return the names of all VMs of this user that have a description, whether they run or not."""
    try:
        files = list(vms_folder().iterdir())
    except OSError:
        return []
    return sorted({path.stem for path in files if path.suffix in KINDS})


def check_name_of(path: Path, vm_name: str, word: str) -> None:
    """Make sure that the VM in *path*, which *word* stands for, has that name.

    Otherwise ``bpferry start`` and ``bpferry stop`` would need two names for one VM.

    Raises:
        BadInput: it is called *vm_name*.
    """
    if path == Path(word) or vm_name == word:
        return
    raise BadInput(
        f"'{path}' describes a VM with another name, '{vm_name}'",
        f"rename the file to {vm_name}{path.suffix}, or the VM to '{word}'",
        "name",
    )


def _hint(vm_name: str) -> str:
    file = Path(vm_name)
    if file.suffix in KINDS:
        place = f"move it to '{vms_folder()}', and " if file.exists() else ""
        return f"{place}give the name alone, without '{file.suffix}': {file.stem}"
    here = next((f"{vm_name}{kind}" for kind in KINDS if Path(f"{vm_name}{kind}").exists()), "")
    if here:
        return (
            f"this folder has '{here}': run it by its path (bpferry run {here}), or move it there"
        )
    names = own_names()
    if not names:
        return "put the VM's description there, or start it by its path: bpferry run FILE"
    import difflib  # noqa: PLC0415 - rarely needed

    close = difflib.get_close_matches(vm_name, names, n=1)
    if close:
        return f"do you mean '{close[0]}'?"
    more = ", ..." if len(names) > MAX_SHOWN else ""
    return f"these are there: {', '.join(names[:MAX_SHOWN])}{more}"
