# SPDX-License-Identifier: LGPL-2.1-or-later
"""Unix sockets that are there before QEMU starts, and gone after it ends.

We listen, and QEMU inherits the listening socket: a client may connect before QEMU runs, QEMU needs
no permission to create files, and what a killed run has left behind is found and removed.

A stale socket file is recognized by a connection of the wrong type (``SOCK_DGRAM``), which disturbs
nobody: the kernel answers EPROTOTYPE if somebody is bound, and ECONNREFUSED if nobody is
(unix_find_bsd, net/unix/af_unix.c).
"""

import contextlib
import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bpferry.commandline.parts import Listen
from bpferry.errors import BpferryError
from bpferry.machine.folders import explain_session
from bpferry.machine.paths import explain_closed, is_folder

MAX_PATH_BYTES: Final = 107
"""sun_path without its final zero byte (unix(7))."""

BACKLOG: Final = 1
"""QEMU serves one client of a character device at a time."""

LOCK_SECONDS: Final = 5.0
"""How long another bpferry may be busy in the same folder; it takes a millisecond."""

FOLDER_MODE: Final = 0o700
SOCKET_MODE: Final = 0o600
"""A VM's sockets are for the user who runs it."""


@contextlib.contextmanager
def open_listen(listen: Listen) -> Iterator[socket.socket]:
    """Listen on the path of *listen*; the socket is closed and its file removed with the block.

    The socket may be closed earlier, as soon as QEMU has inherited it; its file then stays.

    Raises:
        BpferryError: it cannot be created, or a process listens there already.
    """
    with listen_at(Path(listen.path), socket.SOCK_STREAM, BACKLOG) as sock:
        yield sock


@contextlib.contextmanager
def listen_at(path: Path, kind: socket.SocketKind, backlog: int) -> Iterator[socket.socket]:
    """Listen on *path* with a socket of *kind*, as ``open_listen`` does.

    Raises:
        BpferryError: it cannot be created, or a process listens there already.
    """
    check_path(path)
    make_folder(path.parent)
    with socket.socket(socket.AF_UNIX, kind) as sock:
        with _locked(path.parent):
            remove_stale(path)
            _bind(sock, path, backlog)
            identity = _identity(path)
        try:
            yield sock
        finally:
            _remove(path, identity)


def connect_to(path: Path) -> tuple[socket.socket, socket.socket]:
    """Return a connection, and the listening socket that it waits at; nothing is left at *path*.

    Nobody else can have connected: its folder and the socket are open to this user alone.

    Raises:
        BpferryError: it cannot be made.
    """
    with contextlib.ExitStack() as undo:
        connection = undo.enter_context(socket.socket(socket.AF_UNIX))
        with listen_at(path, socket.SOCK_STREAM, 1) as listening:
            connection.connect(str(path))
            listens = listening.dup()
        undo.pop_all()
    return connection, listens


def check_path(path: Path) -> None:
    """Raise BpferryError unless *path* is short enough for a Unix socket."""
    length = len(os.fsencode(path))
    if length > MAX_PATH_BYTES:
        raise BpferryError(
            f"cannot listen at '{path}': the path of a Unix socket has at most {MAX_PATH_BYTES} "
            f"bytes, and this one has {length}",
            "choose a shorter path, give the VM a shorter name, or set XDG_RUNTIME_DIR to a folder "
            "with a shorter path",
        )


def make_folder(folder: Path) -> None:
    """Make *folder* and what is missing above it, for this user alone.

    Raises:
        BpferryError: it cannot be made, or somebody else has put it into a folder such as /tmp.
    """
    for part in (*reversed(folder.absolute().parents), folder.absolute()):
        try:
            # One at a time: os.makedirs() does not use its mode for the folders above.
            with contextlib.suppress(FileExistsError):
                part.mkdir(FOLDER_MODE)
            check_owner(part)
        except OSError as error:
            message = f"cannot make the folder '{part}': {error.strerror}"
            raise BpferryError(message, explain_session(part)) from error


def check_owner(folder: Path) -> None:
    """Refuse a folder that somebody else made in a place where everybody can."""
    found = folder.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise BpferryError(f"'{folder}' is not a directory")
    above = folder.parent.stat()
    # A symbolic link of somebody else may lead to a folder of ours, and elsewhere a moment later.
    owners = {folder.lstat().st_uid, found.st_uid} - {0, os.geteuid()}
    if above.st_mode & stat.S_ISVTX and owners:
        raise BpferryError(
            f"cannot use the folder '{folder}': it belongs to the user {owners.pop()}, who could "
            "replace what is in it",
            "set XDG_RUNTIME_DIR to a folder of yours, or choose another path",
        )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock *folder*, so that two of us do not take each other's new socket for a stale one."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        end = time.monotonic() + LOCK_SECONDS
        while not _try_lock(fd):
            if time.monotonic() > end:
                raise BpferryError(f"cannot listen in '{folder}': somebody else holds a lock on it")
            time.sleep(0.01)
        yield
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove_stale(path: Path) -> None:
    """Remove the file of a socket at *path* on which nobody listens any more.

    Raises:
        BpferryError: there is something else, or somebody listens.
    """
    if _is_stale(path):
        try:
            path.unlink()
        except OSError as error:
            raise BpferryError(
                f"cannot listen at '{path}': cannot remove the stale socket: {error.strerror}"
            ) from error


def check_free(path: Path) -> None:
    """Raise BpferryError if nobody could listen on *path*; nothing is made or removed."""
    check_path(path)
    what = f"cannot listen at '{path}'"
    if _is_stale(path):
        return
    above = path.parent
    while not os.access(above, os.F_OK) and above != above.parent:
        above = above.parent
    if not is_folder(above):
        raise BpferryError(f"{what}: '{above}' is not a directory", "choose another path")
    if not os.access(above, os.W_OK | os.X_OK):
        hint = explain_session(path) or "choose another path"
        raise BpferryError(f"{what}: you may not write to '{above}'", hint)


def _is_stale(path: Path) -> bool:
    """Say whether *path* is a socket that nobody listens on; False if there is nothing.

    Raises:
        BpferryError: there is something else, or somebody listens.
    """
    what = f"cannot listen at '{path}'"
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        cause, hint = explain_closed(path)
        hint = explain_session(path) or hint or "choose another path"
        raise BpferryError(f"{what}: {cause or error.strerror}", hint) from error
    if not stat.S_ISSOCK(found.st_mode):
        raise BpferryError(
            f"{what}: a file that is no socket is in the way",
            "move it away, or choose another path",
        )
    if is_bound(path):
        raise BpferryError(
            f"{what}: a process is already listening there",
            "the VM may be running: stop it, or use another path for this one",
        )
    return True


def is_bound(path: Path) -> bool:
    """Say whether a process has the socket at *path* open; True if that is unknown."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(str(path))
        except OSError as error:
            return error.errno not in (errno.ECONNREFUSED, errno.ENOENT)
    return True


def _bind(sock: socket.socket, path: Path, backlog: int) -> None:
    # The file gets the mode of its socket (unix_bind_bsd), so that it is never open to more users.
    os.fchmod(sock.fileno(), SOCKET_MODE)
    try:
        sock.bind(str(path))
        sock.listen(backlog)
    except OSError as error:
        raise BpferryError(
            f"cannot listen at '{path}': {error.strerror}", "choose another path"
        ) from error


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


def _remove(path: Path, identity: tuple[int, int]) -> None:
    """Remove *path* if it is still the file that we made."""
    with contextlib.suppress(OSError):
        if _identity(path) == identity:
            path.unlink()
