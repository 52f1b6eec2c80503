# SPDX-License-Identifier: LGPL-2.1-or-later
"""The file that a VM is saved to, under its first name until it is complete."""

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

import msgspec

from bpferry.errors import BadInput, BpferryError, NotReady
from bpferry.machine.paths import is_folder
from bpferry.machine.saved import Header, Image, write_header

FILE_MODE: Final = 0o600
"""A guest's memory has its passwords and keys."""

NO_HARD_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""What link(2) says on file systems that have none, such as FAT."""


class SaveFile:
    """FILE.part, which is called FILE when it is complete."""

    def __init__(self, path: Path, *, replace: bool) -> None:
        """Make it.

        Raises:
            BpferryError: it cannot be made, or is there already.
        """
        if not path.is_absolute():
            raise BadInput(f"'{path}' is not an absolute path")
        if is_folder(path):
            raise BadInput(f"cannot save to '{path}': it is a folder", "name a file in it")
        if not replace and os.path.lexists(path):
            raise NotReady(
                f"cannot save to '{path}': it is there already", "use --force to replace it"
            )
        self._path = path
        self._replace = replace
        self._part = path.with_name(f"{path.name}.part")
        self._header: Header | None = None
        self.written = False
        """Whether QEMU has written everything."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self.fd = os.open(self._part, flags, FILE_MODE)
        except FileExistsError as error:
            raise NotReady(
                f"cannot save to '{path}': '{self._part}' is there already",
                "another 'bpferry save' may be writing it; if not, remove it",
            ) from error
        except OSError as error:
            raise BpferryError(
                f"cannot save to '{path}': {error.strerror}",
                "create its folder, or choose a path that you may write to",
            ) from error

    def start(self, header: Header) -> None:
        """Write *header*; the stream comes behind it."""
        self._header = header
        try:
            write_header(self.fd, header)
        except OSError as error:
            from bpferry.machine.remedies import find_remedy  # noqa: PLC0415 - for one that fails

            raise BpferryError(
                f"cannot write '{self._part}': {error.strerror}",
                find_remedy([error.strerror or ""], self._header.qemu),
            ) from error

    def finish(self, images: dict[str, Image]) -> None:
        """Complete the header with the *images*, and give the file its name.

        Raises:
            BpferryError: it could not be completed, or not be given its name.
        """
        if not self.written or self._header is None:
            self.remove()
            return
        try:
            write_header(
                self.fd, msgspec.structs.replace(self._header, images=images, complete=True)
            )
            os.fsync(self.fd)
        except OSError as error:
            raise BpferryError(
                f"the VM has ended and is not saved: cannot complete '{self._part}': "
                f"{error.strerror}",
                "remove that file, which cannot be restored, and start the VM without --restore",
            ) from error
        finally:
            os.close(self.fd)
        self._give_name()

    def remove(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self._part.unlink()
        os.close(self.fd)

    def _give_name(self) -> None:
        try:
            if self._replace:
                self._part.rename(self._path)
            else:
                self._rename_to_new()
        except OSError as error:
            cause = error.strerror
            if isinstance(error, FileExistsError):
                cause = "somebody else has made that file meanwhile"
            raise BpferryError(
                f"the VM is saved, but in '{self._part}', which could not be called "
                f"'{self._path}': {cause}",
                f"rename it, or restore the VM from it: bpferry run --restore '{self._part}'",
            ) from error

    def _rename_to_new(self) -> None:
        """Rename the file, but never onto another one."""
        try:
            # rename(2) would replace what has come there meanwhile.
            self._path.hardlink_to(self._part)
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            # Here the time between the two is short, but there is one.
            if os.path.lexists(self._path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
            self._part.rename(self._path)
        else:
            self._part.unlink()
