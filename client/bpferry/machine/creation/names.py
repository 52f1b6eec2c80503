# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a new VM can be called, and where its files are."""

import re
import shlex
from pathlib import Path
from typing import Final

from bpferry.errors import BadInput, NameTaken, NotReady
from bpferry.machine.folders import MAX_NAME, disk_folder, vms_folder
from bpferry.machine.paths import exists

NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
"""A file, a systemd unit's instance and the guest's own host name are called like this."""

KINDS: Final = ("toml", "xml")


def check_name(name: str) -> None:
    """Refuse a name that a VM of ``bpferry create`` cannot have.

    Raises:
        BadInput: it is too long, or has other characters.
    """
    if not NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise BadInput(
            f"wrong usage: {name!r} cannot be the name of a new VM: files, a systemd unit and the "
            "guest itself get this name",
            f"use up to {MAX_NAME} letters, digits, '-', '.' and '_', with a letter or a digit at "
            "both ends",
        )


def check_free(name: str) -> None:
    """Refuse to overwrite a VM.

    Raises:
        NameTaken: there is one of this name.
        NotReady: the user has no home folder.
    """
    folder = disk_folder(name)
    if not (folder.is_absolute() and vms_folder().is_absolute()):
        raise NotReady(
            f"cannot find a place for the VM '{name}': you have no home folder",
            "set HOME, or both XDG_CONFIG_HOME and XDG_DATA_HOME",
        )
    for kind in KINDS:
        path = vms_folder() / f"{name}.{kind}"
        if exists(path):
            raise NameTaken(
                f"there is a VM '{name}' already: '{path}'",
                f"choose another name; or remove that VM for good: {_removal(path, folder)}",
            )
    if exists(folder):
        raise NameTaken(
            f"there is no description of a VM '{name}', but a folder for its disk: '{folder}'",
            f"choose another name; or look into it, and remove it if nothing in it is needed: "
            f"{_removal(folder)}",
        )


def description_path(name: str) -> Path:
    """Return where the description of the new VM *name* will be."""
    return vms_folder() / f"{name}.toml"


def _removal(*paths: Path) -> str:
    return "rm -r " + " ".join(shlex.quote(str(path)) for path in paths if exists(path))
