# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether there is something at a path, also in folders that are closed to this user.

``Path.exists`` and its like raise PermissionError there, which would end everything else that is
found about a VM. What is in such a folder counts as not there, and ``closed_folder`` says why.
"""

import os
import stat
from pathlib import Path


def exists(path: str | Path) -> bool:
    """Say whether *path* is there, as far as this user can see."""
    return _mode(path) is not None


def is_folder(path: str | Path) -> bool:
    """Say whether *path* is a directory, as far as this user can see."""
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def is_socket(path: str | Path) -> bool:
    """Say whether *path* is a Unix socket, as far as this user can see."""
    mode = _mode(path)
    return mode is not None and stat.S_ISSOCK(mode)


def holds_files(folder: str | Path) -> bool:
    """Say whether *folder* has files that are not hidden, as far as this user can see."""
    try:
        return any(not name.startswith(".") for name in os.listdir(folder))  # noqa: PTH208
    except OSError:
        return False


def _mode(path: str | Path) -> int | None:
    try:
        return os.stat(path).st_mode  # noqa: PTH116 - the path may be text
    except (OSError, ValueError):
        return None


def closed_folder(path: str | Path) -> str:
    """Return the folder above *path* that this user may not look into; empty if there is none."""
    for folder in reversed(Path(path).absolute().parents):
        if is_folder(folder) and not os.access(folder, os.X_OK):
            return str(folder)
    return ""


def explain_closed(path: str | Path) -> tuple[str, str]:
    """Return why this user cannot look at *path*, and what to do; nothing if he can."""
    folder = closed_folder(path)
    if not folder:
        return "", ""
    return (
        f"the folder '{folder}' is closed to you",
        f"choose another path, or ask the owner of '{folder}' to let you in",
    )
