# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads the policy file.

The file must belong to root and be writable by nobody else, or it is not used.
"""

import os
import stat
from typing import Final

from bpferry_helper.errors import PolicyError
from bpferry_helper.policy.rules import NO_FILE, Policy
from bpferry_wire.fds import OwnedFd

POLICY_PATH: Final = "/etc/bpferry/policy.toml"

MAX_POLICY_BYTES: Final = 65_536
"""Enough for some hundred users; anything larger is a mistake."""

Identity = tuple[int, ...]
"""Changes when the file does, or the error that keeps us from reading it."""


def read_policy(path: str, socket_gid: int) -> Policy:
    """Read and check *path*; return the default if there is no file. May wait for name services.

    Raises:
        PolicyError: with the line of the first mistake.
    """
    try:
        text = _read_text(path)
    except FileNotFoundError:
        return Policy(NO_FILE, users=frozenset(), groups=frozenset({socket_gid}))
    except OSError as error:
        raise PolicyError(path, 0, f"cannot be read: {error.strerror}") from error
    # Imported late: most hosts have no policy file, and tomllib takes 10 ms of the start.
    from bpferry_helper.policy.toml_form import parse_policy  # noqa: PLC0415

    return parse_policy(path, text, socket_gid)


def _read_text(path: str) -> str:
    raw = read_roots_file(path)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise PolicyError(path, line, "is not UTF-8") from error


def file_identity(path: str) -> Identity:
    """Return what changes when *path* does. Call it before reading the file."""
    try:
        info = os.stat(path)
    except OSError as error:
        return (error.errno or 0,)
    return (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def read_roots_file(path: str, most: int = MAX_POLICY_BYTES) -> bytes:
    """Return the content of *path*, at most *most* bytes, which only root can have written.

    Raises:
        PolicyError: somebody else could have, or it is not a regular file or too long.
        OSError: it cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    # open() and not os.fdopen(), which would leave the fd of a directory open.
    with OwnedFd(fd), open(fd, "rb", closefd=False) as file:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise PolicyError(path, 0, "is not a regular file")
        if info.st_uid != 0 or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PolicyError(path, 0, "must belong to root and be writable by nobody else")
        raw = file.read(most + 1)
    if len(raw) > most:
        raise PolicyError(path, 0, f"is longer than {most} bytes")
    return raw
