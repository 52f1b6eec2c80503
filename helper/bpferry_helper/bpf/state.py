# SPDX-License-Identifier: LGPL-2.1-or-later
"""The state folder: a few small files that survive the helper's restart.

systemd makes it (StateDirectory=) and names it in STATE_DIRECTORY. Each file is written under a
temporary name and renamed, so that a kill at any moment leaves the old file or the new one. There
is no fsync: after a power failure all grants are gone, and nothing in these files matters.
"""

import os
import re
from contextlib import suppress
from threading import Lock
from typing import Final

from bpferry_helper.errors import StartupError
from bpferry_wire.fds import OwnedFd

MAX_FILE_BYTES: Final = 4_194_304
"""Read from one file: four times the largest object that is kept."""

NEW: Final = ".new"


class StateFolder:
    """Reads and writes files by name."""

    def __init__(self, path: str) -> None:
        """Use the folder *path*, which must exist."""
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise StartupError(
                f"the state folder '{path}' cannot be used: the unit must say StateDirectory="
            )
        self._path = path
        self._lock = Lock()

    def read(self, name: str) -> bytes | None:
        """Return the content of *name*, or None if it cannot be read or is too long."""
        try:
            fd = os.open(self._file(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        # open() and not os.fdopen(), which would leave the fd of a directory open.
        with OwnedFd(fd), suppress(OSError), open(fd, "rb", closefd=False) as file:
            raw = file.read(MAX_FILE_BYTES + 1)
            return raw if len(raw) <= MAX_FILE_BYTES else None
        return None

    def write(self, name: str, content: bytes) -> None:
        """Replace the content of *name*, or leave it as it was.

        Raises:
            OSError: such as a full disk.
        """
        new = self._file(name + NEW)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        # Two workers may write the same file, and there is one temporary name.
        with self._lock:
            try:
                with os.fdopen(os.open(new, flags, 0o600), "wb") as file:
                    file.write(content)
                os.rename(new, self._file(name))
            except OSError:
                self.remove(name + NEW)
                raise

    def open_to_add(self, name: str) -> OwnedFd:
        """Open *name*, which must exist, to write at its end.

        Raises:
            OSError: such as too many fds.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        return OwnedFd(os.open(self._file(name), flags))

    def names(self, prefix: str) -> list[str]:
        """Return the names that start with *prefix*, oldest file first."""
        found = [n for n in os.listdir(self._path) if n.startswith(prefix) and NEW not in n]
        return sorted(found, key=lambda name: os.stat(self._file(name)).st_mtime_ns)

    def remove(self, name: str) -> None:
        """Remove *name* if it is there."""
        with suppress(OSError):
            os.unlink(self._file(name))

    def _file(self, name: str) -> str:
        assert re.fullmatch(r"[a-z0-9.-]+", name), name  # noqa: S101 - our own names only
        return f"{self._path}/{name}"
