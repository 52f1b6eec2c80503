# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether another process has an image locked, so that QEMU would not open it.

QEMU locks single bytes of an image file, whatever they contain: one for each thing that it does
with the image, another for each thing that it lets nobody else do (block/file-posix.c). These locks
are shared, and asking about an exclusive one tells whether anybody has it. Asking locks nothing.
"""

import fcntl
import os
import struct
from collections.abc import Iterator
from typing import Final

from bpferry.domain.model.machine import Machine
from bpferry.errors import NotReady
from bpferry.machine.images import Image, images_of
from bpferry.machine.processes import describe_process, find_locker, find_own_vm

DONE: Final = 100
FORBIDDEN: Final = 200
"""The first byte of each kind (RAW_LOCK_PERM_BASE, RAW_LOCK_SHARED_BASE)."""

READ, WRITE, RESIZE = 0, 1, 3
"""The byte for each thing within a kind (BLK_PERM_* of include/block/block-common.h)."""

FLOCK: Final = struct.Struct("hhqqi0q")
"""struct flock of fcntl(2): type, whence, start, length, process."""


def find_locked_images(machine: Machine) -> Iterator[NotReady]:
    """Yield the images that another process does not let QEMU use as the document wants.

    Each error's element is a key of the model.
    """
    for image in images_of(machine):
        try:
            fd = os.open(image.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue  # It cannot be read, which is reported elsewhere.
        try:
            byte = next(filter(None, (_holder(fd, byte) for byte in _conflicting(image))), None)
            if byte is not None:
                yield _locked(image, *byte)
        finally:
            os.close(fd)


def _conflicting(image: Image) -> Iterator[int]:
    """Yield the bytes that nobody may have locked if QEMU is to open *image*."""
    does = [READ]
    if image.writable:
        does += [WRITE] if image.is_raw else [WRITE, RESIZE]
    yield from (FORBIDDEN + thing for thing in does)
    if image.depth or not image.disk.shareable:
        yield from (DONE + thing for thing in ((WRITE,) if image.is_raw else (WRITE, RESIZE)))


def _holder(fd: int, byte: int) -> tuple[int, int] | None:
    """Return *byte* and the process that has it locked, 0 if that is not known; or None."""
    asked = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    kind, _, _, _, pid = FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))
    if kind == fcntl.F_UNLCK:
        return None
    # The kernel names the process only for a POSIX lock; an open file may belong to several.
    return byte, pid if pid > 0 else find_locker(fd, byte) or 0


def _locked(image: Image, byte: int, pid: int) -> NotReady:
    own = find_own_vm(pid) if pid else None
    who = describe_process(pid) if pid else "another process"
    does = "writes to it" if byte in (DONE + WRITE, DONE + RESIZE) else "does not share it"
    end = f"end process {pid}" if pid else f"end that process (fuser -v '{image.path}')"
    if own is not None:
        import shlex  # noqa: PLC0415 - where there is something to tell

        who, end = f"your VM '{own}'", f"end that VM (bpferry stop {shlex.quote(own)})"
    return NotReady(
        f"cannot use '{image.path}': it is locked now by {who}, which {does}",
        f"{end}, or give this VM an image of its own{_sharing(image)}",
        image.key,
    )


def _sharing(image: Image) -> str:
    if image.writable and image.is_raw:
        return "; guests with a cluster file system can share it, if both VMs say 'shareable'"
    return ""
