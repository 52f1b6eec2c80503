# SPDX-License-Identifier: LGPL-2.1-or-later
"""The file of a saved VM: a header that says what it is, then QEMU's migration stream.

    offset 0          MAGIC, then the header in JSON, then zero bytes
    HEADER_BYTES      the stream, to the end of the file

The stream fits only a VM with the same devices, and only the disks as they were when it was saved.
QEMU notices some of the first, with words that help nobody, and nothing of the second: a guest
that continues with other disks destroys their file systems. So the header has both.
"""

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from bpferry.commandline.build import Built
from bpferry.domain.model.machine import Machine
from bpferry.errors import BadInput, NotReady
from bpferry.qemu.monitor import CommandRefused, Monitor

MAGIC: Final = b"bpferry saved VM 1\n"
HEADER_BYTES: Final = 262_144
"""Much more than the longest command line that was seen takes, and a multiple of every block."""

FD_NAME: Final = "saved"

RELEVANT: Final = frozenset((
    "-accel", "-cpu", "-device", "-global", "-m", "-machine", "-numa", "-object", "-smp",
))  # fmt: skip
"""The options whose words have to be the same: what the guest sees depends on them."""


Link = Literal["up", "down"]


class Image(msgspec.Struct, frozen=True):
    """An image file as it was when the VM was saved."""

    bytes: int
    changed_ns: int
    """Its time of change (st_mtime_ns)."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a saved VM."""

    name: str
    qemu: str
    """The path of its QEMU."""
    version: str
    """Of that QEMU."""
    words: tuple[str, ...]
    """The relevant words of its command line, with names for fds."""
    paused: bool
    """The user had paused it."""
    saved_s: int
    """Seconds since 1970."""
    images: dict[str, Image] = {}
    """By path."""
    links: dict[str, Link] = {}
    """Of the cards, by id, whose link was not as the description has it."""
    asleep: bool = False
    """Its guest slept."""
    complete: bool = False
    """QEMU had written everything, and had closed the disks."""


def relevant_words(built: Built) -> tuple[str, ...]:
    """Return the options of a command line, with names for fds, that have to be the same."""
    pairs = itertools.pairwise(built.argv)
    return tuple(f"{option} {value}" for option, value in pairs if option in RELEVANT)


def images_of(machine: Machine) -> dict[str, Image]:
    """Return the image files of *machine* as they are now; block devices have no such times."""
    found = {}
    for disk in machine.disks:
        if disk.file is not None and Path(disk.file).is_file():
            status = Path(disk.file).stat()
            found[disk.file] = Image(status.st_size, status.st_mtime_ns)
    return found


def write_header(fd: int, header: Header) -> None:
    """Write *header* to the start of the file *fd*.

    Raises:
        OSError: the disk is full, for example.
    """
    data = MAGIC + msgspec.json.encode(header)
    assert len(data) <= HEADER_BYTES  # noqa: S101 - see HEADER_BYTES
    data = data.ljust(HEADER_BYTES, b"\0")
    written = 0
    # The kernel may write less than it is given, as on a disk that is almost full.
    while written < HEADER_BYTES:
        written += os.pwrite(fd, data[written:], written)


def read_header(fd: int, path: str) -> Header:
    """Return the header of the file *fd*, which is at *path*.

    Raises:
        BadInput: it is not the file of a saved VM.
    """
    data = os.pread(fd, HEADER_BYTES, 0)
    if not data.startswith(MAGIC) or len(data) < HEADER_BYTES:
        raise BadInput(
            f"cannot restore '{path}': it is not a VM that 'bpferry save' has saved",
            "give the file that was given to 'bpferry save'",
        )
    try:
        return msgspec.json.decode(data[len(MAGIC) :].rstrip(b"\0"), type=Header)
    except msgspec.MsgspecError as error:
        raise BadInput(
            f"cannot restore '{path}': its header is damaged: {error}",
            "save the VM again, or start it without --restore",
        ) from error


def check_name(header: Header, vm_name: str, path: str) -> None:
    """Raise BadInput if the VM in *path* is another one than *vm_name*."""
    if header.name != vm_name:
        raise BadInput(
            f"cannot restore '{path}': it is the VM '{header.name}', and the description is of "
            f"'{vm_name}'",
            f"give the description of '{header.name}'",
        )


def check_complete(header: Header, path: str) -> None:
    """Raise BadInput if the VM was not saved to the end in *path*."""
    if not header.complete:
        raise BadInput(
            f"cannot restore '{path}': the VM was not saved to the end, or is still being saved",
            "wait for 'bpferry save', or start the VM without --restore",
        )


def check_images(header: Header, path: str) -> None:
    """Raise NotReady if a disk is not as it was when the VM was saved."""
    for image, before in header.images.items():
        try:
            status = Path(image).stat()
        except OSError as error:
            raise NotReady(
                f"cannot restore '{path}': cannot see '{image}', which the VM had as a disk: "
                f"{error.strerror}",
                "put it back, or start the VM without --restore",
            ) from error
        if Image(status.st_size, status.st_mtime_ns) != before:
            raise NotReady(
                f"cannot restore '{path}': '{image}' has changed since, and a guest that goes on "
                "with another disk than it knows destroys its file systems",
                "put back the disk as it was, or start the VM without --restore",
            )


def check_words(header: Header, words: Sequence[str], path: str) -> None:
    """Raise NotReady if the VM is another one than it was when it was saved."""
    lost = _without(header.words, words)
    new = _without(words, header.words)
    if not lost and not new:
        return
    differences = [f"it had '{word}'" for word in lost] + [f"it has '{word}'" for word in new]
    shown = "; ".join(differences[:2])
    more = f"; and {len(differences) - 2} more" if len(differences) > 2 else ""  # noqa: PLR2004 - as shown
    raise NotReady(
        f"cannot restore '{path}': the VM is not the same as when it was saved: {shown}{more}",
        "undo what was changed in the description, or start the VM without --restore",
    )


def _without(words: Iterable[str], others: Iterable[str]) -> list[str]:
    known = set(others)
    return [word for word in words if word not in known]


async def tell_to_use(monitor: Monitor, command: str, fd: int) -> None:
    """Let QEMU do *command*, ``migrate`` or ``migrate-incoming``, with the stream in the file *fd*.

    The fd is open for that direction only, and borrowed. QEMU before 8.2 has no migration to and
    from a part of a file; to newer ones, plain fds are deprecated.

    Raises:
        QemuError: it refuses.
    """
    number = await monitor.add_fd(fd)
    part = f"file:/dev/fdset/{number},offset={HEADER_BYTES}"
    try:
        await monitor.execute(command, {"uri": part})
    except CommandRefused:
        os.lseek(fd, HEADER_BYTES, os.SEEK_SET)
        await monitor.give_fd(FD_NAME, fd)
        await monitor.execute(command, {"uri": f"fd:{FD_NAME}"})
    finally:
        await monitor.execute("remove-fd", {"fdset-id": number})


def of_records(values: Mapping[str, object], key: str) -> Mapping[str, object]:
    """Return the record that *values*, an answer of QEMU, has under *key*; empty if none."""
    found = values.get(key)
    return found if isinstance(found, dict) else {}
