# SPDX-License-Identifier: LGPL-2.1-or-later
"""The current policy.

The file must belong to root and be writable by nobody else, or it is not used. It is looked at
before each decision and read again when it has changed, so there is nothing to restart or reload.
"""

import os
import stat
import time
from typing import Final

from bpferry_helper.errors import PolicyError
from bpferry_helper.log import WARNING, log
from bpferry_helper.policy.rules import NO_FILE, Policy
from bpferry_wire.fds import OwnedFd

POLICY_PATH: Final = "/etc/bpferry/policy.toml"

MAX_POLICY_BYTES: Final = 65_536
"""Enough for some hundred users; anything larger is a mistake."""

RETRY_S: Final = 1.0
"""How long to believe a mistake or an unknown name while the file does not change."""


Identity = tuple[int, ...]
"""Changes when the file does, or the error that keeps us from reading it."""


class PolicyFile:
    """The current policy: the file is read again whenever it has changed."""

    def __init__(self, path: str, socket_gid: int) -> None:
        """Watch *path*; *socket_gid* is the group that may load unless a file says otherwise."""
        self._path = path
        self._socket_gid = socket_gid
        self._seen: Identity | None = None
        self._read_at = 0.0
        self._answer: Policy | PolicyError | None = None
        self._warned: tuple[str, ...] = ()

    def current(self) -> Policy:
        """Return the policy in force.

        Raises:
            PolicyError: the file cannot be used.
        """
        seen = file_identity(self._path)
        if self._answer is None or seen != self._seen or self._may_be_better():
            self._seen, self._read_at = seen, time.monotonic()
            self._answer = self._read()
            self._warn()
        if isinstance(self._answer, PolicyError):
            raise self._answer
        return self._answer

    def _may_be_better(self) -> bool:
        """Return whether the problem may have gone: a user was added, or an fd is free."""
        old = time.monotonic() - self._read_at >= RETRY_S
        return old and (isinstance(self._answer, PolicyError) or bool(self._warned))

    def _warn(self) -> None:
        """Log once what was skipped."""
        warnings = self._answer.warnings if isinstance(self._answer, Policy) else ()
        for warning in warnings:
            if warning not in self._warned:
                log(WARNING, f"{warning}, ignoring")
        self._warned = warnings

    def _read(self) -> Policy | PolicyError:
        try:
            return read_policy(self._path, self._socket_gid)
        except PolicyError as error:
            return error


def read_policy(path: str, socket_gid: int) -> Policy:
    """Read and check *path*; return the default if there is no file.

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


def read_roots_file(path: str) -> bytes:
    """Return the content of *path*, which only root can have written.

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
        raw = file.read(MAX_POLICY_BYTES + 1)
    if len(raw) > MAX_POLICY_BYTES:
        raise PolicyError(path, 0, f"is longer than {MAX_POLICY_BYTES} bytes")
    return raw
