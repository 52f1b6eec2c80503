# SPDX-License-Identifier: LGPL-2.1-or-later
"""Opens a file if only root could have changed it.

A file is trusted if only root can change it: a regular file that belongs to root and that nobody
else may write, in folders that are the same, all the way up. This is checked on the opened fds,
never on a name. Symbolic links are not followed: to trust a link's target, name the target.
"""

import os
import stat
from typing import Final, NamedTuple

from bpferry_helper.errors import HelperError
from bpferry_wire.fds import OwnedFd

WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


MAX_BINARY_BYTES: Final = 512 * 1_048_576
"""Searching that much takes a worker about a second. The system emulators of Debian have 10 to
30 MB, a static one with all debug information 300."""


class Untrusted(HelperError):  # noqa: N818
    """Others could have changed the file or one of its folders, or it is too large."""


class Binary(NamedTuple):
    """An opened and checked file. Its holder owns the fd."""

    path: str
    fd: OwnedFd
    key: str
    """Changes whenever the file does."""
    size: int


def open_trusted(path: str) -> Binary:
    """Open the absolute *path* if only root could have changed it.

    Raises:
        Untrusted: names the part of the path that others can change, or says that it is too large.
        OSError: it cannot be opened.
    """
    _, *folders, name = path.split("/")
    folder = OwnedFd(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    try:
        _check_root_alone(folder, "/")
        seen = ""
        for part in folders:
            seen += f"/{part}"
            flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner = OwnedFd(os.open(part, flags, dir_fd=folder.borrow()))
            folder.close()
            folder = inner
            _check_root_alone(folder, seen)
        # O_NONBLOCK: opening a FIFO must not wait for its writer.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        file = OwnedFd(os.open(name, flags, dir_fd=folder.borrow()))
    finally:
        folder.close()
    try:
        return _checked_binary(path, file)
    except BaseException:
        file.close()
        raise


def _checked_binary(path: str, file: OwnedFd) -> Binary:
    info = _check_root_alone(file, path)
    if not stat.S_ISREG(info.st_mode):
        raise Untrusted(f"'{path}' is not a regular file")
    if info.st_size > MAX_BINARY_BYTES:
        raise Untrusted(
            f"'{path}' is larger than {MAX_BINARY_BYTES >> 20} MiB, too large to search"
        )
    key = f"{info.st_dev}:{info.st_ino}:{info.st_size}:{info.st_mtime_ns}:{info.st_ctime_ns}"
    return Binary(path, file, key, info.st_size)


def _check_root_alone(fd: OwnedFd, path: str) -> os.stat_result:
    # A POSIX ACL that lets others write shows in the group bits (acl(5), the mask entry).
    info = os.fstat(fd.borrow())
    if info.st_uid != 0:
        raise Untrusted(f"'{path}' does not belong to root")
    if info.st_mode & WRITABLE_BY_OTHERS:
        raise Untrusted(f"'{path}' can be written by others than root")
    return info
