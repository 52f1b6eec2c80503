# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether what a document says about an image fits together."""

from typing import Final

from bpferry.domain.model.disks import Image, Layer
from bpferry.domain.names import Named
from bpferry.domain.shown import any_of

BACKED: Final = frozenset({"qcow2", "qcow", "qed", "vmdk"})
"""Formats whose images can have one below them (qapi/block-core.json, ...GenericCOWFormat)."""

NEVER_WRITTEN: Final = frozenset({"bochs", "cloop", "dmg"})
"""Formats that QEMU only reads (block/bochs.c, block/cloop.c, block/dmg.c)."""

CONFIDED: Final = ("login", "cookies")
"""What a server is told that others must not know."""

OPTIONAL: Final = (
    "query", "snapshot", "config", "verify", "read_ahead", "timeout", "reconnect_delay",
    "initiator", "user_name", "user", "group", "agent", *CONFIDED,
)  # fmt: skip
"""What may be said of an image on the network, besides where it is."""

SOURCES: Final = {
    "file": ("file",),
    "block": ("block_device",),
    "dir": ("folder",),
    "network": ("protocol", "name", "hosts", *OPTIONAL),
}
"""The fields that say where an image is, by its type."""


def check_image(part: Named[Layer], *, read_only: bool) -> None:
    """Raise Unsupported for what does not fit the format of an image."""
    image = part.value
    check_source(part)
    if (image.format == "fat") is not (image.type == "dir"):
        raise part.mistake(
            "format",
            "a folder, and only a folder, is shown in the format fat",
            "write the format 'fat' for a folder, and another one for anything else",
        )
    if image.type == "dir" and not read_only:
        raise part.refusal(
            "", "QEMU shows a folder as it is when the VM starts, and does not write to it",
            "make the disk read-only",
        )  # fmt: skip
    if image.format != "qcow2":
        for field in ("metadata_cache", "data_file", "discard_no_unref"):
            if getattr(image, field, None) is not None:
                name = field.replace("_", "-")
                raise part.refusal(
                    field,
                    f"{name} needs an image in the format qcow2",
                    f"leave out {name}, or use an image in the format qcow2",
                )
    if image.format in NEVER_WRITTEN and not read_only:
        raise part.refusal(
            "format", f"QEMU only reads images in {image.format}", "make the disk read-only"
        )


def check_source(part: Named[Image]) -> None:
    """Raise Unsupported for an image that is nowhere, or in two places."""
    image = part.value
    for kind, fields in SOURCES.items():
        for field in fields:
            if kind != image.type and getattr(image, field) not in (None, ()):
                name = field.replace("_", "-")
                raise part.mistake(
                    field, f"a disk of type {image.type} has no {name}", _hint(image.type)
                )
    first = SOURCES[image.type or ""][0] if image.type in SOURCES else "type"
    if not getattr(image, first, None):
        name = first.replace("_", "-")
        raise part.mistake(
            "", f"a disk of type {image.type} needs the key '{name}'", f"add '{name}'"
        )


def _hint(kind: str | None) -> str:
    named = any_of(f"'{one}'" for one in SOURCES if one != kind)
    return f"remove it, or set the type to {named}"
