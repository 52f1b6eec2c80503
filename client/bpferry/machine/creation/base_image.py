# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether an image can be below the disk of a new VM, and its format.

The format is in the header of every format but raw, which has none. What has no header is taken
for raw only if it begins like a disk that can be booted, and the user is told; a user who knows
better says ``--image-format``.
"""

import os
import shlex
import stat
from pathlib import Path
from typing import Final

from bpferry.errors import BadInput
from bpferry.machine.creation.qemu_img import read_info
from bpferry.machine.creation.wish import BaseImage
from bpferry.machine.image_formats import format_of
from bpferry.machine.paths import explain_closed

WHERE_FROM: Final = (
    "give the path of a disk image with an installed system; Debian's are at "
    "https://cloud.debian.org/images/cloud/ (choose 'genericcloud' and '.qcow2')"
)

HEAD_BYTES: Final = 0x8006
"""Up to the mark of an ISO 9660 file system."""

ISO: Final = (0x8001, b"CD001")

BOOT_SIGNATURE: Final = (510, b"\x55\xaa")
"""Of a master boot record, which a disk with GPT has too."""

PACKED: Final = {
    b"\x1f\x8b": "gunzip -k {}",
    b"\xfd7zXZ\0": "unxz -k {}",
    b"\x28\xb5\x2f\xfd": "unzstd {}",
    b"BZh": "bunzip2 -k {}",
    b"PK\3\4": "unzip {}",
}
"""How packed files begin, and how each is unpacked."""

TAR: Final = (257, b"ustar")

USABLE: Final = ("qcow2", "raw")


def look_at(given: str, image_format: str | None) -> BaseImage:
    """Return what there is to know about the image *given*, in the format that the user says.

    Raises:
        BpferryError: it cannot be read, or a new VM cannot have it.
    """
    # The new disk keeps this name: a link may lead to another image tomorrow.
    path = os.path.realpath(given)
    head = _read_head(given, path)
    _refuse_other_things(given, head)
    found = format_of(head)
    chosen = image_format or found or "raw"
    note = ""
    if image_format is None:
        note = _judge_format(given, head, found)
    elif image_format == "raw" and found is not None:
        note = f"'{given}' has a header of {found}, and is used as raw, as you said"
    elif image_format == "qcow2" != found:
        raise BadInput(
            f"cannot use '{given}' as qcow2: {_what(found)}", "leave '--image-format' out"
        )
    return _with_size(path, chosen, note)


def _read_head(given: str, path: str) -> bytes:
    """Return how the image begins."""
    if "://" in given:
        raise BadInput(
            f"cannot read the image '{given}': it is an address, and nothing is downloaded here",
            f"download it first, and compare its checksum: curl -LO {shlex.quote(given)}",
        )
    try:
        given.encode()
        mode = os.stat(path).st_mode  # noqa: PTH116 - beside realpath
        if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
            with Path(path).open("rb") as file:
                return file.read(HEAD_BYTES)
    except UnicodeEncodeError as error:
        raise BadInput(
            f"cannot use the image {given!r}: its name is not UTF-8, as text in TOML has to be",
            "rename it",
        ) from error
    except (OSError, ValueError) as error:
        closed, hint = explain_closed(path)
        cause = closed or getattr(error, "strerror", None) or error
        raise BadInput(f"cannot read the image '{given}': {cause}", hint or WHERE_FROM) from error
    what = "it is a directory" if stat.S_ISDIR(mode) else "it is not a file or a block device"
    raise BadInput(f"cannot read the image '{given}': {what}", WHERE_FROM)


def _refuse_other_things(given: str, head: bytes) -> None:
    """Refuse what is often given in place of a disk image."""
    quoted = shlex.quote(given)
    if not head:
        raise BadInput(f"cannot use the image '{given}': it is empty", WHERE_FROM)
    if head.startswith(ISO[1], ISO[0]):
        raise BadInput(
            f"cannot use the image '{given}': it is an ISO image, as on a CD to install from, and "
            "a new VM needs a disk with an installed system",
            f"{WHERE_FROM}; to install from the CD, describe the VM yourself: a disk with "
            "device = \"cdrom\" for this file, and an empty one from 'qemu-img create'",
        )
    for magic, command in PACKED.items():
        if head.startswith(magic):
            raise BadInput(
                f"cannot use the image '{given}': it is packed",
                f"unpack it first: {command.format(quoted)}",
            )
    if head.startswith(TAR[1], TAR[0]):
        raise BadInput(
            f"cannot use the image '{given}': it is a tar archive",
            f"unpack it first: tar -xf {quoted}",
        )


def _judge_format(given: str, head: bytes, found: str | None) -> str:
    """Return what to tell about the format *found* in the header, which nobody has named."""
    if found in USABLE:
        return ""
    if found is not None:
        raise BadInput(
            f"cannot use the image '{given}': {_what(found)}",
            "its contents are encrypted: use an image that is not"
            if found == "luks"
            else f"convert it: qemu-img convert -f {found} -O qcow2 {shlex.quote(given)} NEW.qcow2",
        )
    if not head.startswith(BOOT_SIGNATURE[1], BOOT_SIGNATURE[0]):
        raise BadInput(
            f"cannot tell what '{given}' is: it has neither the header of an image format nor a "
            "boot sector",
            f"{WHERE_FROM}; if it is a raw image all the same, say '--image-format raw'",
        )
    return f"'{given}' has no header of an image format, and is used as a raw image"


def _what(found: str | None) -> str:
    return f"it is {found}" if found else "it has no header of that format"


def _with_size(path: str, image_format: str, note: str) -> BaseImage:
    info = read_info(path, image_format)
    other = info.backing_filename or info.data_file
    if other:
        raise BadInput(
            f"cannot use the image '{path}': part of its contents is in another file, {other!r}, "
            "which its header names; from a stranger's image that could be any file of yours",
            "if you know both files, make one image of them: qemu-img convert -f qcow2 -O qcow2 "
            f"{shlex.quote(path)} NEW.qcow2",
        )
    if info.encrypted:
        raise BadInput(f"cannot use the image '{path}': it is encrypted", "use one that is not")
    return BaseImage(path, image_format, info.virtual_size, note)
