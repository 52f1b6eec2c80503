# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether the images of a VM are the same files at another host.

A guest that goes on with another disk than it knows destroys its file systems, so an equal path is
not enough. A file in a shared file system has the same inode number at all hosts (NFS, CephFS, GFS2
and OCFS2 say so). And QEMU has bytes of its images locked (``image_locks``): if the other host sees
such a lock at its file, it is the same file, and the locks that keep two QEMUs from writing to it
work between the two hosts. The size is compared too where it does not grow while the guest runs.

This shows that files are the same as far as a user can see; the inode number of another file may
be equal by chance, and a lock that another VM has on that one looks the same.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bpferry.commandline.build import Built
from bpferry.commandline.parts import Copy
from bpferry.domain.model.machine import Machine
from bpferry.errors import BpferryError, NotReady, Unsupported
from bpferry.machine.image_locks import DONE, FLOCK
from bpferry.machine.images import images_of
from bpferry.machine.migration.messages import SharedFile

LOCK_BYTES: Final = 200
"""From DONE on: the bytes of both kinds of locks."""

NO_COPY: Final = (
    "put the image where both hosts see it under the same path, such as on NFS; or move the VM "
    "while it does not run, with a copy of the image"
)


def files_of(machine: Machine, built: Built) -> tuple[SharedFile, ...]:
    """Return the image files of *machine*, which runs as *built*, and its firmware's variables.

    Raises:
        Unsupported: one of them is a block device.
        BpferryError: one of them cannot be seen.
    """
    grows = {image.path: not image.is_raw for image in images_of(machine)}
    grows |= {copy.target: False for copy in built.of(Copy)}
    return tuple(_identify(path, grows=grows[path]) for path in grows)


def _identify(path: str, *, grows: bool) -> SharedFile:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BpferryError(f"cannot look at '{path}': {error.strerror}") from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise Unsupported(
                f"'{path}' is a block device, and it cannot be told whether the other host "
                "has the same one under that name",
                NO_COPY,
            )
        size = None if grows else status.st_size
        return SharedFile(path=path, inode=status.st_ino, bytes=size, locked=_is_locked(fd))
    finally:
        os.close(fd)


def find_differences(files: tuple[SharedFile, ...], source: str) -> Iterator[NotReady]:
    """Yield an error for each of *files*, which the VM uses at *source*, that differs here."""
    for file in files:
        difference = _difference(file)
        if difference:
            yield NotReady(
                f"'{file.path}' is not the file that the VM uses at '{source}': {difference}; "
                "disks have to be shared, and are not copied",
                NO_COPY,
            )


def _difference(file: SharedFile) -> str:
    """Say how the file at that path here differs from *file*; empty if it does not."""
    try:
        fd = os.open(Path(file.path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return "there is none"
    except OSError as error:
        return f"it cannot be opened: {error.strerror}"
    try:
        return _compare(fd, file)
    finally:
        os.close(fd)


def _compare(fd: int, file: SharedFile) -> str:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    if status.st_ino != file.inode:
        return f"it has the inode {status.st_ino} here and {file.inode} there"
    if file.bytes is not None and status.st_size != file.bytes:
        return f"it has {status.st_size} bytes here and {file.bytes} there"
    if file.locked and not _is_locked(fd):
        return "the lock that QEMU has on it there is not seen here"
    return ""


def _is_locked(fd: int) -> bool:
    asked = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, DONE, LOCK_BYTES, 0)
    kind: int = FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))[0]
    return kind != fcntl.F_UNLCK
