# SPDX-License-Identifier: LGPL-2.1-or-later
"""The image files and block devices of a VM's disks, each with how QEMU will use it.

There may be another image below an image, and the document need not say so: then the header of a
qcow2 image names it (docs/interop/qcow2.rst of QEMU).
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from msgspec.structs import replace

from bpferry.commandline.storage.blockdev import MAX_DEPTH, is_host_cdrom, is_read_only
from bpferry.domain.model.machine import Machine
from bpferry.domain.remaining import numbered

if TYPE_CHECKING:
    from bpferry.domain.model.disks import Disk, Layer
    from bpferry.domain.model.images import DataFile

QCOW2: Final = b"QFI\xfb"
HEADER: Final = struct.Struct(">4sIQI")
"""Magic, version, and offset and length of the name of the image below."""

MAX_NAME: Final = 1023
"""The longest name of the image below, in bytes."""

BACKING_FORMAT: Final = 0xE2792ACA
"""The header extension with the format of the image below."""

FIXED_HEADER: Final = 72
"""Bytes of the header of version 2; that of version 3 has its length at offset 100."""


class Image(Struct, frozen=True):
    """One file or block device behind a disk."""

    key: str
    """The key of the model that names it, or that names the image above it."""
    disk: "Disk"
    path: str
    format: str | None
    """The format in the document."""
    writable: bool
    """Whether QEMU opens it for writing."""
    depth: int = 0
    """How many images are above it."""
    offset: int = 0
    """Where it begins in the file."""
    encrypted: bool = False
    """Whether QEMU decrypts it; if so, a raw one is in LUKS."""
    above: str = ""
    """The path of the image whose header names this one; empty if the document does."""

    @property
    def is_raw(self) -> bool:
        """Whether the guest sees the file as it is."""
        return (self.format or "raw") == "raw" and not self.encrypted


def images_of(machine: Machine) -> Iterator[Image]:
    """Yield the images of *machine* that are on this host, those below after those above."""
    for index, disk in numbered(machine.disks):
        if disk.type in ("file", "block") and not is_host_cdrom(disk.block_device):
            yield from _chain(disk, f"disks[{index}]")


def layers_of(disk: "Disk", key: str) -> "Iterator[tuple[str, Layer]]":
    """Yield the image of *disk*, and those below that the document names, each with its key."""
    image: Layer | None = disk
    for _ in range(MAX_DEPTH + 1):
        if image is None:
            return
        yield key, image
        image, key = image.backing, f"{key}.backing"


def _chain(disk: "Disk", of: str) -> Iterator[Image]:
    for depth, (key, image) in enumerate(layers_of(disk, of)):
        if depth and image.type is None:
            return
        writable = not depth and not is_read_only(disk)
        found = _image(image, key, disk, depth, writable=writable)
        if found is not None:
            yield found
        if image.data_file is not None:
            data = _image(image.data_file, f"{key}.data-file", disk, depth, writable=writable)
            yield from () if data is None else (data,)
        if image.backing is None and found is not None:
            yield from _below(found)


def _image(
    image: "Layer | DataFile", key: str, disk: "Disk", depth: int, *, writable: bool
) -> Image | None:
    path = image.file if image.type == "file" else image.block_device
    if image.type == "network" or path is None:
        return None
    field = "file" if image.type == "file" else "block-device"
    offset = image.slice.offset if image.slice else 0
    encrypted = image.encryption is not None
    return Image(
        f"{key}.{field}",
        disk,
        path,
        image.format,
        writable=writable,
        depth=depth,
        offset=offset,
        encrypted=encrypted,
    )


def _below(image: Image) -> Iterator[Image]:
    """Yield what the headers name, from below *image* on."""
    seen = {os.path.realpath(image.path)}
    while image.format == "qcow2" and len(seen) <= MAX_DEPTH:
        name, backing_format = _read_backing(image.path)
        # A name with a protocol, such as nbd: or json:, is not a file of this host.
        if not name or ":" in name.partition("/")[0]:
            return
        path = os.path.join(os.path.dirname(image.path), name)  # noqa: PTH118, PTH120 - as QEMU does
        if os.path.realpath(path) in seen:
            return
        seen.add(os.path.realpath(path))
        image = replace(
            image, path=path, format=backing_format, writable=False, depth=image.depth + 1,
            offset=0, encrypted=False, above=image.path,
        )  # fmt: skip
        yield image


def _read_backing(path: str) -> tuple[str, str | None]:
    """Return name and format of the image below, as the header of *path* has them."""
    try:
        with Path(path).open("rb") as file:
            start = file.read(FIXED_HEADER + 32).ljust(FIXED_HEADER + 32, b"\0")
            magic, version, offset, length = HEADER.unpack_from(start)
            if magic != QCOW2 or version not in (2, 3) or not 0 < length <= MAX_NAME:
                return "", None
            file.seek(offset)
            name = os.fsdecode(file.read(length))
            file.seek(FIXED_HEADER if version == 2 else int.from_bytes(start[100:104]))  # noqa: PLR2004 - of qcow2
            return name, _read_format(file.read(max(0, min(offset, 65536) - file.tell())))
    except (OSError, ValueError, OverflowError):
        return "", None


def _read_format(extensions: bytes) -> str | None:
    """Return the format of the image below among the header's *extensions*."""
    at = 0
    while at + 8 <= len(extensions):
        kind, length = struct.unpack_from(">II", extensions, at)
        if kind == BACKING_FORMAT:
            return extensions[at + 8 : at + 8 + length].decode(errors="replace")
        if kind == 0:
            break
        at += 8 + (length + 7) // 8 * 8
    return None
