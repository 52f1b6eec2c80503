# SPDX-License-Identifier: LGPL-2.1-or-later
"""One running VM of each name for each user.

Whatever belongs to a VM depends on its name: sockets in its runtime folder, the firmware's
variables and the TPM's state in its state folder, its UUID and MAC addresses. So a second VM of
that name is refused, before anything is made for it.

It is a lock of the kernel, on a file that says who has it: an open file description lock
(fcntl(2)). It belongs to the open file and not to the process that locked it. QEMU inherits that
file, so the name is taken until QEMU has ended too, which may be later than bpferry if that was
killed. When the last of them ends, the lock is gone; a file that is left behind is not locked and
does no harm.

There is one such file beside each of the VM's two folders, since one may not be enough: without a
login session, the runtime folder is another one. And either may be deleted while the VM runs;
logind deletes the runtime folder when a user logs out.
"""

import contextlib
import fcntl
import json
import os
import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from bpferry.errors import BpferryError, NameTaken, NotReady
from bpferry.machine.control_socket import SOCKET_NAME, is_listened_at
from bpferry.machine.folders import folder_name, folders_of, runtime_folders
from bpferry.machine.listening import make_folder
from bpferry.machine.reporter import Reporter

FILE_NAME: Final = ".{}.lock"
"""After the VM's folder; no such folder begins with a dot."""

KEY: Final = "name"
"""The key of the model that an error is about."""

FILE_MODE: Final = 0o600
MAX_FILE_BYTES: Final = 32768
"""A path has at most 4,096 bytes (PATH_MAX), and JSON may write six for each."""

FLOCK: Final = struct.Struct("hhqqi0q")
"""struct flock (fcntl(2)) with offsets of 64 bits: type, whence, start, length, process."""

END_SECONDS: Final = 20.0
"""For a QEMU to end whose bpferry was killed: it frees all of its guest's memory first."""

POLL_SECONDS: Final = 0.02


class Holder(msgspec.Struct, frozen=True):
    """Who has a name, according to the file of its lock."""

    pid: int
    """The process of bpferry."""
    since_s: int
    """Seconds since 1970."""
    file: str
    """The description."""
    host: str

    def has_ended(self) -> bool:
        """Say whether it is certain that this bpferry has ended, no matter who has its lock."""
        return self.host == socket.gethostname() and _has_ended(self.pid)

    def describe(self) -> str:
        """Return a description of it for people."""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since_s))
        where = "" if self.host == socket.gethostname() else f" on the host '{self.host}'"
        return f"process {self.pid}{where}, since {since}, from '{self.file}'"


UNKNOWN: Final = Holder(0, 0, "", socket.gethostname())
"""Somebody who took the lock a moment ago."""


@contextlib.contextmanager
def hold_name(vm_name: str, file: Path, reporter: Reporter) -> Iterator[tuple[int, ...]]:
    """Hold the name of the VM that *file* describes; yield fds for QEMU to inherit.

    It is held with the block, and for as long as any process has one of the fds.

    Raises:
        NameTaken: a VM of this name and user runs.
        BpferryError: there is no place where the name could be locked.
    """
    text = os.fsencode(file.absolute()).decode(errors="replace")
    us = Holder(os.getpid(), int(time.time()), text, socket.gethostname())
    fds: list[int] = []
    problems: list[BpferryError] = []
    with contextlib.ExitStack() as stack:
        for path in files_of(vm_name):
            if _is_one_of(path, fds):
                continue
            try:
                fds.append(_acquire(path, us, vm_name, reporter))
            except OSError as error:
                problems.append(BpferryError(f"cannot lock '{path}': {error.strerror}"))
            except NameTaken:
                raise
            except BpferryError as error:
                problems.append(error)
            else:
                stack.callback(_release, path, fds[-1])
        _report(problems, vm_name, reporter, enough=bool(fds))
        yield tuple(fds)


def find_conflict(vm_name: str) -> NameTaken | None:
    """Return what a VM of this name would be refused with now. This disturbs nobody."""
    for path in files_of(vm_name):
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                if _is_locked(fd):
                    return _taken(vm_name, path, _read(path) or UNKNOWN)
            finally:
                os.close(fd)
    return None


def files_of(vm_name: str) -> tuple[Path, ...]:
    """Return the files that are locked for the VM *vm_name*."""
    folders = folders_of(vm_name)
    both = Path(folders.state), Path(folders.runtime)
    return tuple(folder.with_name(FILE_NAME.format(folder.name)) for folder in both)


def _report(
    problems: Sequence[BpferryError], vm_name: str, reporter: Reporter, *, enough: bool
) -> None:
    """Say what could not be locked; raise the first of *problems* unless the rest is *enough*."""
    for problem in problems:
        if not enough:
            raise unlockable(vm_name, problem.message)
        reporter.warn(*less_certain(vm_name, problem.message))


def unlockable(vm_name: str, cause: str) -> NotReady:
    """Return the error that the name can be locked nowhere, for this *cause*."""
    return NotReady(
        f"cannot make sure that no other VM '{vm_name}' is running: {cause}",
        "set XDG_RUNTIME_DIR or XDG_STATE_HOME to a folder of yours",
        KEY,
    )


def less_certain(vm_name: str, cause: str) -> tuple[str, str]:
    """Return the warning that it can be locked in one place only, and what to do."""
    return (
        f"a second VM '{vm_name}' that is started in another session may not be noticed: {cause}",
        "set XDG_RUNTIME_DIR and XDG_STATE_HOME to folders of yours",
    )


def _acquire(path: Path, us: Holder, vm_name: str, reporter: Reporter) -> int:
    """Return the fd of the file *path*, which this process has locked and written *us* into.

    Raises:
        NameTaken: somebody else has it.
        BpferryError, OSError: it cannot be made or locked.
    """
    end = time.monotonic() + END_SECONDS
    while True:
        make_folder(path.parent)
        try:
            fd = _try_lock(path, us)
        except FileNotFoundError:
            pass  # somebody has just removed the folder
        except BlockingIOError as error:
            holder = _read(path) or UNKNOWN
            if not holder.has_ended() or time.monotonic() > end:
                raise _taken(vm_name, path, holder) from error
            reporter.progress(f"waiting for QEMU of '{vm_name}', whose bpferry was killed, to end")
        else:
            if fd is not None:
                return fd
        if time.monotonic() > end:
            raise BpferryError(f"cannot lock '{path}': something keeps removing it")
        time.sleep(POLL_SECONDS)


def _try_lock(path: Path, us: Holder) -> int | None:
    """Try once; return None if the previous owner removed the file meanwhile."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, fd)
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        if not _is_at(path, fd):
            return None
        # msgspec's own JSON would be imported for this alone (``msgspec_import``).
        text = json.dumps(msgspec.to_builtins(us), ensure_ascii=False, separators=(",", ":"))
        size = os.pwrite(fd, text.encode(), 0)
        os.ftruncate(fd, size)
        undo.pop_all()
        return fd


def _is_locked(fd: int) -> bool:
    asked = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked)
    return bool(FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def _read(path: Path) -> Holder | None:
    """Return what the file of a lock says; None if it is still empty."""
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(MAX_FILE_BYTES), type=Holder)
    except (OSError, msgspec.MsgspecError):
        return None


def _taken(vm_name: str, path: Path, holder: Holder) -> NameTaken:
    what = f"you already have a VM named '{vm_name}' running"
    see = f"find the process: fuser -v '{path}'"
    if not holder.pid:
        return NameTaken(f"{what}: it has only just been started", see, KEY)
    if holder.has_ended():
        # QEMU has outlived bpferry: there was no setpriv, or QEMU hangs in a disk operation.
        return NameTaken(f"{what}: its QEMU still runs, but its bpferry does not", see, KEY)
    here = holder.host == socket.gethostname()
    return NameTaken(
        f"{what}: {holder.describe()}",
        f"{_how_to_stop(vm_name, holder.pid)}; or give one of the two another name"
        if here
        else "stop it there, give one of the two another name, or set XDG_STATE_HOME to a folder "
        "of this host",
        KEY,
    )


def _how_to_stop(vm_name: str, pid: int) -> str:
    import shlex  # noqa: PLC0415 - for a name that is taken

    name = shlex.quote(vm_name)
    places = (folder / folder_name(vm_name) / SOCKET_NAME for folder in runtime_folders())
    if any(map(is_listened_at, places)):
        return f"see it: bpferry status {name}; stop it: bpferry stop {name}"
    # A VM that has lost its control socket cannot be asked.
    return f"see it: ps -fp {pid}; stop it: kill {pid}, which asks its guest to power down"


def _release(path: Path, fd: int) -> None:
    """Remove the file *path* if it is that of *fd*, and close *fd*."""
    # This is done while it is locked, so that nobody else's file is removed.
    with contextlib.suppress(OSError):
        if _is_at(path, fd):
            path.unlink()
    os.close(fd)


def _is_one_of(path: Path, fds: Sequence[int]) -> bool:
    """Say whether the file *path* is open as one of *fds*: both folders may be the same."""
    return any(_is_at(path, fd) for fd in fds)


def _is_at(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(fd))
    except OSError:
        return False


def _has_ended(pid: int) -> bool:
    """Say whether there is no process *pid*, or only a zombie."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return True
    try:
        return bool(select.select([pidfd], [], [], 0)[0])
    finally:
        os.close(pidfd)
