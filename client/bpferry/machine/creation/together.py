# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files and folders that are all made, or none of them.

Whatever ends the block before its end, an error or a signal, what was made in it is removed. A
signal waits while something is made and noted down, and while things are removed.
"""

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bpferry.errors import BpferryError, NameTaken
from bpferry.machine.folders import remove_empty
from bpferry.machine.paths import exists

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Those that end us with an exception (``cli.main``)."""

FOLDER_MODE: Final = 0o700

FILE_MODE: Final = 0o600


class Together:
    """What has been made so far."""

    def __init__(self) -> None:
        self._undo = contextlib.ExitStack()

    def make_folder(self, path: Path) -> None:
        """Make the folder *path*, which must be new, and those above it that are missing.

        Raises:
            BpferryError: it is there, or cannot be made.
        """
        for folder in (*reversed(path.parents), path):
            if folder is path or not exists(folder):
                with _telling(folder), _undivided():
                    self._make_one(folder, is_new=folder is path)

    def _make_one(self, folder: Path, *, is_new: bool) -> None:
        try:
            folder.mkdir(FOLDER_MODE)
        except FileExistsError:
            # Somebody else made one of those above at the same time.
            if is_new:
                raise
        else:
            self._undo.callback(_remove_all if is_new else remove_empty, folder)

    def write_file(self, path: Path, text: str) -> None:
        """Write *text* to the file *path*, which must be new.

        Raises:
            BpferryError: it is there, or cannot be written.
        """
        if not exists(path.parent):
            self.make_folder(path.parent)
        with _telling(path):
            with _undivided():
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
                self._undo.callback(path.unlink, missing_ok=True)
            with open(fd, "w", encoding="utf-8") as file:  # noqa: PTH123 - of an fd
                file.write(text)
                file.flush()
                os.fsync(file.fileno())

    def keep(self) -> None:
        """Let all of it stay."""
        self._undo.pop_all()

    def undo(self) -> None:
        """Remove all of it, the last thing first."""
        with _undivided():
            self._undo.close()


@contextlib.contextmanager
def all_or_nothing() -> Iterator[Together]:
    """Yield what makes files and folders; they stay if the block ends well."""
    made = Together()
    try:
        yield made
        made.keep()
    finally:
        made.undo()


@contextlib.contextmanager
def _undivided() -> Iterator[None]:
    """Let signals wait for the end of the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise NameTaken(
            f"cannot make '{path}': it is there already", "choose another name for the VM"
        ) from error
    except OSError as error:
        raise BpferryError(
            f"cannot make '{path}': {error.strerror}",
            "make room or let yourself write there; or choose other folders with XDG_CONFIG_HOME "
            "and XDG_DATA_HOME",
        ) from error


def _remove_all(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
