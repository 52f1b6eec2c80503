# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether an image is in the format that the document says.

If an image is a container, such as qcow2, and is used as raw, the guest sees the container: it
finds no system in it, and destroys it when it writes. If the document says 'raw', this is a
warning, since the guest may have written such a header into its own disk. That is no reason to use
another format: the header of qcow2 can name any file of the host as the image below, and QEMU would
show that to the guest. If the document gives no format, the VM is not started; the user can insist
by writing 'raw'.

LUKS on a raw disk is normal for a guest that encrypts its disk, and is not reported.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bpferry.domain.forms import either
from bpferry.domain.model.machine import Machine
from bpferry.errors import NotReady
from bpferry.machine.faults import Fault
from bpferry.machine.images import Image, images_of

MAGICS: Final = {
    "qcow2": (0, (b"QFI\xfb\0\0\0\x02", b"QFI\xfb\0\0\0\x03")),
    "qcow": (0, (b"QFI\xfb\0\0\0\x01",)),
    "qed": (0, (b"QED\0",)),
    "vmdk": (0, (b"KDMV", b"COWD", b"# Disk DescriptorFile")),
    "vdi": (64, (b"\x7f\x10\xda\xbe",)),
    "vhdx": (0, (b"vhdxfile",)),
    "luks": (0, (b"LUKS\xba\xbe",)),
}
"""Offset and value of the magic of each format (the probe functions in block/)."""

CERTAIN: Final = frozenset(MAGICS) - {"vmdk"}
"""Formats that an image without the magic is certainly not in. The text of a vmdk's descriptor may
begin with anything."""

CONTAINERS: Final = frozenset(MAGICS) - {"luks"}
"""Formats that nobody wants the guest to see as raw bytes."""

HEAD_BYTES: Final = 128

CRYPT_METHOD: Final = 32
"""Where the header of qcow2 says how the image is encrypted."""

LUKS: Final = 2
"""By LUKS, for each image inside of qcow2."""


def find_wrong_formats(machine: Machine) -> Iterator[NotReady]:
    """Yield an error for each image that is certainly not in its format; its element is a key."""
    for image, head in _heads_of(machine):
        found = format_of(head)
        wanted = "luks" if image.encrypted and image.format in (None, "raw") else image.format
        if image.is_raw:
            if image.format is None and found in CONTAINERS:
                yield _unsaid(image, str(found))
        elif found != wanted and (wanted in CERTAIN or found is not None):
            yield NotReady(
                f"cannot use '{image.path}' as {wanted}: "
                + (f"it is {found}" if found else f"it has no {wanted} header"),
                "name an image that is encrypted, or remove the encryption"
                if image.encrypted
                else f"set the format to '{found or 'raw'}', or name another file",
                _format_key(image),
            )
        elif found == "qcow2":
            yield from _wrong_encryption(image, head)


def _wrong_encryption(image: Image, head: bytes) -> Iterator[NotReady]:
    """Yield an error if the header of a qcow2 image says otherwise about encryption (qcow2.rst)."""
    method = int.from_bytes(head[CRYPT_METHOD : CRYPT_METHOD + 4])
    key = f"{image.key.rpartition('.')[0]}.encryption"
    if image.encrypted and method != LUKS:
        yield NotReady(
            f"cannot decrypt '{image.path}': it is not encrypted with LUKS",
            "name an image that is encrypted, or remove the encryption",
            key,
        )
    elif not image.encrypted and method == LUKS:
        say = either(
            'encryption = { secrets = [{ usage = "NAME" }] }',
            "<encryption format='luks'><secret type='passphrase' usage='NAME'/></encryption>",
        )
        yield NotReady(
            f"cannot use '{image.path}': it is encrypted with LUKS, and no secret is given",
            f"say which secret opens it: {say}",
            image.key,
        )


def find_shown_containers(machine: Machine) -> Iterator[Fault]:
    """Yield a warning for each image that is said to be raw, and is a container."""
    for image, head in _heads_of(machine):
        found = format_of(head)
        if image.is_raw and image.format == "raw" and found in CONTAINERS:
            yield Fault(
                _format_key(image),
                "data-loss",
                f"'{image.path}' is {found}, and is used as raw",
                "the guest sees the container instead of its contents, and destroys it by writing",
                f"set the format to '{found}' if you made the image; keep 'raw' if the guest "
                "may have written the header: it could name files of this host to read them",
            )


def _heads_of(machine: Machine) -> Iterator[tuple[Image, bytes]]:
    """Yield each image that the document names, with how it begins, if that can be read."""
    for image in images_of(machine):
        head = b"" if image.above else _head(image)
        if head:
            yield image, head


def _unsaid(image: Image, found: str) -> NotReady:
    return NotReady(
        f"'{image.path}' is {found}, and the document does not name its format: used as raw, "
        "the guest would see the container instead of its contents, and destroy it by writing",
        f"write {_written(found)}, or 'raw' only if the guest itself writes {found} to its disk",
        image.key,
    )


def _written(name: str) -> str:
    return either(f'format = "{name}"', f"<driver type='{name}'/>")


def _format_key(image: Image) -> str:
    return f"{image.key.rpartition('.')[0]}.format"


def _head(image: Image) -> bytes:
    """Return how *image* begins; empty if it cannot be read, which is reported elsewhere."""
    try:
        with Path(image.path).open("rb") as file:
            file.seek(image.offset)
            return file.read(HEAD_BYTES)
    except OSError:
        return b""


def format_of(head: bytes) -> str | None:
    """Return the format of an image that begins with *head*; None if it is raw or unknown."""
    for name, (offset, magics) in MAGICS.items():
        if head.startswith(magics, offset):
            return name
    return None
