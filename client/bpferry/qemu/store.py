# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that keep answers which take long to get: one folder, one user.

    $XDG_CACHE_HOME/bpferry/capabilities/NAME       mode 0700 / 0600
        8 bytes   MAGIC
        4 bytes   CRC-32 of the rest, big endian: a truncated or damaged file is ignored
        rest      what was kept

A file counts only if it and its folder are ours and nobody else can write to them; all others are
ignored. A file is written under another name and then renamed, so that a reader sees the old one or
the new one, and of two writers the last one wins.
"""

import os
import stat
import zlib
from typing import Final, TypeVar

import msgspec

T = TypeVar("T")

MAGIC: Final = b"bpferry\x01"

HEAD_BYTES: Final = len(MAGIC) + 4

MAX_FILE_BYTES: Final = 64 * 1024 * 1024
"""We never write more than this; capabilities take about 0.2 MB."""

OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH

NEW_PREFIX: Final = ".new-"


def folder() -> str:
    """Return where the files are, by the XDG base directories; the folder may not exist."""
    return f"{_base()}/bpferry/capabilities"


def _base() -> str:
    given = os.environ.get("XDG_CACHE_HOME", "")
    if given.startswith("/"):
        return given
    return os.path.expanduser("~/.cache")  # noqa: PTH111 - Path.home() raises without a home


def read(name: str) -> bytes | None:
    """Return what was kept as *name*; None if there is nothing, or nothing that can be trusted."""
    try:
        if not _is_ours(os.lstat(folder()), stat.S_IFDIR):
            return None
        path = f"{folder()}/{name}"
        with open(path, "rb", buffering=0, opener=_open) as file:
            status = os.fstat(file.fileno())
            if not _is_ours(status, stat.S_IFREG) or status.st_size > MAX_FILE_BYTES:
                return None
            data = file.read()
    except OSError:
        return None
    kept = data[HEAD_BYTES:]
    return kept if data[:HEAD_BYTES] == _head(kept) else None


def load(name: str, kind: type[T]) -> T | None:
    """Return what was kept as *name* if it is a whole *kind*, in msgpack; else None."""
    data = read(name)
    if data is None:
        return None
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _open(path: str, _flags: int) -> int:
    """Open *path* for reading, unless it is a symbolic link; never block."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)


def write(name: str, kept: bytes) -> None:
    """Keep *kept* as *name*.

    Raises:
        OSError: it cannot be written, or the folder is not ours alone.
    """
    import tempfile  # noqa: PLC0415 - not where everything is known already

    _make_folder()
    fd, path = tempfile.mkstemp(prefix=NEW_PREFIX, dir=folder())
    try:
        with open(fd, "wb") as file:  # noqa: PTH123 - it is an fd
            file.write(_head(kept))
            file.write(kept)
        os.rename(path, f"{folder()}/{name}")  # noqa: PTH104 - it names a place twice
    except BaseException:
        os.unlink(path)  # noqa: PTH108 - as above
        raise


def clear() -> int:
    """Remove all that is kept; return how many files that were.

    Raises:
        OSError: a file cannot be removed.
    """
    removed = 0
    try:
        with os.scandir(folder()) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.path)  # noqa: PTH108 - as above
                    removed += 1
    except FileNotFoundError:
        # The folder, or a file that somebody else removed first; the rest can be asked for again.
        return removed
    return removed


def _head(kept: bytes) -> bytes:
    return MAGIC + zlib.crc32(kept).to_bytes(4, "big")


def _make_folder() -> None:
    """Make the folder and those above it; what is above XDG_CACHE_HOME has to exist."""
    for path in (_base(), f"{_base()}/bpferry", folder()):
        try:
            os.mkdir(path, 0o700)  # noqa: PTH102 - pathlib would cost more than the rest
        except FileExistsError:
            continue
    if not _is_ours(os.lstat(folder()), stat.S_IFDIR):
        raise PermissionError(f"'{folder()}' is not a folder of yours that only you can write to")


def _is_ours(status: os.stat_result, kind: int) -> bool:
    return (
        stat.S_IFMT(status.st_mode) == kind
        and status.st_uid == os.geteuid()
        and not status.st_mode & OTHERS_WRITE
    )
