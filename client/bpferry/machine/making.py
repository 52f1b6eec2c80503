# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether bpferry can make the files and folders that a VM needs before QEMU starts."""

import os
from collections.abc import Iterator
from pathlib import Path

from bpferry.commandline.build import Built
from bpferry.commandline.parts import Companion, Copy, Folder
from bpferry.errors import NotReady
from bpferry.machine.paths import exists, explain_closed, is_folder


def find_unmakeable(built: Built) -> Iterator[NotReady]:
    """Yield what cannot be made; each error's element is a key of the model."""
    for copy in built.of(Copy):
        cause, fix = ("", "") if exists(copy.target) else why_not_inside(Path(copy.target).parent)
        if cause:
            yield NotReady(f"cannot make '{copy.target}': {cause}", fix, copy.key)
    folders = [(folder.path, folder.key) for folder in built.of(Folder)]
    folders += [(path, one.key) for one in built.of(Companion) for path in one.folders]
    for path, key in dict.fromkeys(folders):
        cause, fix = why_not_inside(Path(path))
        if cause:
            what = "write into" if exists(path) else "make"
            yield NotReady(f"cannot {what} the folder '{path}': {cause}", fix, key)


def why_not_inside(folder: Path) -> tuple[str, str]:
    """Return why nothing can be made in *folder*, which may be missing, and what to do."""
    cause, fix = explain_closed(folder)
    if cause:
        return cause, fix
    while not exists(folder) and folder != folder.parent:
        folder = folder.parent
    return why_no_file(folder)


def why_no_file(folder: Path) -> tuple[str, str]:
    """Return why no file can be made in *folder*, and what to do; nothing if one can."""
    cause, fix = explain_closed(folder)
    if cause:
        return cause, fix
    if not exists(folder):
        return f"there is no folder '{folder}'", "create that folder, or choose another path"
    if not is_folder(folder):
        return f"'{folder}' is not a directory", "choose another path"
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        return (
            f"you may not create files in '{folder}'",
            f"choose another path, or ask the owner of '{folder}' to let you write there",
        )
    return "", ""
