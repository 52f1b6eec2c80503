# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether what a document says about an image fits together."""

from typing import Final

from bpferry.commandline.context import unsupported
from bpferry.commandline.storage.network_images import OPTIONAL
from bpferry.domain.model.disks import Disk
from bpferry.domain.model.images import BackingImage, Image

BACKED: Final = frozenset({"qcow2", "qcow", "qed", "vmdk"})
"""Formats whose images can have one below them (qapi/block-core.json, ...GenericCOWFormat)."""

NEVER_WRITTEN: Final = frozenset({"bochs", "cloop", "dmg"})
"""Formats that QEMU only reads (block/bochs.c, block/cloop.c, block/dmg.c)."""

SOURCES: Final = {
    "file": ("file",),
    "block": ("block_device",),
    "network": ("protocol", "name", "hosts", *OPTIONAL),
}
"""The fields that say where an image is, by its type."""


def check_image(image: Disk | BackingImage, key: str, *, read_only: bool) -> None:
    """Refuse what does not fit the format of *image*.

    Raises:
        Unsupported: with the key.
    """
    check_source(image, key)
    if image.format != "qcow2":
        for field in ("metadata_cache", "data_file", "discard_no_unref"):
            if getattr(image, field, None) is not None:
                name = field.replace("_", "-")
                raise unsupported(f"{key}.{name}", f"{name} needs an image in the format qcow2")
    if image.format in NEVER_WRITTEN and not read_only:
        raise unsupported(
            f"{key}.format", f"QEMU only reads images in {image.format}", "make the disk read-only"
        )


def check_source(image: Image, key: str) -> None:
    """Refuse an image that is nowhere, or in two places.

    Raises:
        Unsupported: with the key.
    """
    for kind, fields in SOURCES.items():
        for field in fields:
            if kind != image.type and getattr(image, field) not in (None, ()):
                name = field.replace("_", "-")
                raise unsupported(
                    f"{key}.{name}", f"a disk of type {image.type} has no {name}", _hint(image.type)
                )
    first = SOURCES[image.type or ""][0] if image.type in SOURCES else "type"
    if not getattr(image, first, None):
        name = first.replace("_", "-")
        raise unsupported(key, f"a disk of type {image.type} needs the key '{name}'")


def _hint(kind: str | None) -> str:
    named = " or ".join(f"'{one}'" for one in SOURCES if one != kind)
    return f"take it out, or say that the type is {named}"
