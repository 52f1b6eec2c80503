# SPDX-License-Identifier: LGPL-2.1-or-later
"""The block nodes behind a disk, from the file up to what the device is attached to.

    storage   opens a file, a host's device, or something on the network
    slice     a part of it (only if the document says so)
    format    qcow2 and others, and LUKS; raw needs none
    copy      copies what is read from an image below into the top one
    throttle  limits

The topmost node of an image says whether it may be written and what happens to discarded blocks;
those below it open for writing when they have to. Node names are made from the target, as
``vda-format``; those of backing images have their depth, as ``vda-1-format``. QEMU takes at most
31 signs (block.c, bdrv_assign_node_name).
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from bpferry.commandline.parts import Option, Secret
from bpferry.commandline.storage.image_checks import BACKED, check_image, check_source
from bpferry.commandline.storage.image_secrets import (
    ImageSecrets,
    is_decrypted_by_qemu,
    secrets_of,
)
from bpferry.domain.model.disks import Disk, Image, Layer
from bpferry.domain.model.images import BackingImage
from bpferry.domain.names import Named

HOST_CDROM: Final = r"/dev/(cdrom|cdrw|dvd|dvdrw|sr[0-9]+|scd[0-9]+)"
"""A heuristic: what udev and the kernel call the host's own CD drives."""

CACHES: Final = {
    "none": {"direct": True, "no-flush": False},
    "writeback": {"direct": False, "no-flush": False},
    "writethrough": {"direct": False, "no-flush": False},
    "directsync": {"direct": True, "no-flush": False},
    "unsafe": {"direct": False, "no-flush": True},
}
"""libvirt's names (docs/formatdomain, 'driver'); the guest's own cache is set on the device."""

MAX_DEPTH: Final = 200
"""Images below one another, as in libvirt (storage_source_conf.h, VIR_STORAGE_MAX_CHAIN_DEPTH)."""


class Nodes(Struct, frozen=True):
    """The nodes of one disk."""

    options: tuple[Option, ...]
    secrets: tuple[Secret, ...]
    """What QEMU has to know to open them."""
    top: str
    """What the device is attached to."""


def has_medium(disk: Disk) -> bool:
    """Say whether there is anything in the drive."""
    return any((disk.file, disk.block_device, disk.folder, disk.protocol, disk.name, disk.hosts))


def cache_of(disk: Disk) -> str | None:
    """Return the cache mode of *disk*; None for QEMU's own default.

    What several VMs write to is not cached on this host.
    """
    if disk.cache not in (None, "default"):
        return disk.cache
    return "none" if disk.shareable and not is_read_only(disk) else None


def is_host_cdrom(path: str | None) -> bool:
    """Say whether *path* is one of the host's own CD drives."""
    return path is not None and re.fullmatch(HOST_CDROM, path) is not None


def is_read_only(disk: Disk) -> bool:
    """Say whether the guest can write to *disk*."""
    return disk.read_only or disk.device == "cdrom"


def disk_nodes(
    device: Named[Disk], throttle_groups: Sequence[str], numbers: Mapping[str, int]
) -> Nodes:
    """Return the nodes of the disk *device*, which has a target and a medium.

    Args:
        device: the disk.
        throttle_groups: the ids of the groups that limit it.
        numbers: by which libvirt calls each image.

    Raises:
        Unsupported: what the document says about an image contradicts itself.
    """
    disk = device.value
    read_only = is_read_only(disk)
    builder = _Builder(disk, str(disk.target), numbers)
    top = builder.add_image(device, _Level(str(disk.target), 0, read_only))
    if disk.copy_on_read:
        top = builder.add_filter("copy", {"driver": "copy-on-read", "file": top})
    for number, group in enumerate(throttle_groups):
        throttle = {"driver": "throttle", "throttle-group": group, "file": top}
        kind = f"throttle{number or ''}"
        top = builder.add_filter(kind, {"read-only": read_only, **throttle})
    return Nodes(tuple(builder.options), tuple(builder.secrets), top)


class _Level(Struct, frozen=True):
    """One image of a chain: what its nodes are called, and whether they are written to."""

    prefix: str
    depth: int
    """0 for the one that the guest writes to."""
    read_only: bool


def _format(image: Layer, secrets: ImageSecrets) -> dict[str, object]:
    """Return the driver for the format of *image*; for an encrypted raw image that is LUKS."""
    if not is_decrypted_by_qemu(image):
        # A folder needs no format; the raw node carries what the topmost node has to say.
        return {"driver": "raw" if image.format == "fat" else image.format}
    opened_by = {"key-secret": secrets.encryption[0].name}
    if (image.format or "raw") == "raw":
        return {"driver": "luks", **opened_by}
    return {"driver": image.format, "encrypt": {"format": "luks", **opened_by}}


class _Builder:
    """Collects the nodes of one disk, those below first."""

    def __init__(self, disk: Disk, name: str, numbers: Mapping[str, int]) -> None:
        self.disk = disk
        self.name = name
        self.numbers = numbers
        self.options: list[Option] = []
        self.secrets: list[Secret] = []

    def add_filter(self, kind: str, properties: dict[str, object]) -> str:
        """Add a node above what is there, which lets discards through, and return its name."""
        name = f"{self.name}-{kind}"
        self._add({"node-name": name, "discard": "unmap", **properties})
        return name

    def add_image(self, part: Named[Layer], level: _Level) -> str:
        """Add the nodes of an image and of all below it, and return the name of the topmost."""
        image = part.value
        if level.depth > MAX_DEPTH:
            raise part.refusal(
                "",
                f"the chain of backing images is longer than {MAX_DEPTH}",
                "shorten the chain: 'qemu-img commit' or 'qemu-img rebase' merges images",
            )
        check_image(part, read_only=level.read_only)
        below = self._backing(part, level)
        secrets = self._secrets(part)
        if (image.format or "raw") == "raw" and not is_decrypted_by_qemu(image):
            return self._add_storage(part, level, self._top(level), secrets)
        data = None
        if image.data_file is not None:
            file = part.part("data-file", image.data_file)
            check_source(file)
            at = replace(level, prefix=f"{level.prefix}-data")
            data = self._add_storage(file, at, self._top(level), self._secrets(file))
        storage = self._add_storage(part, level, None, secrets)
        name = f"{level.prefix}-format"
        properties = {
            "node-name": name,
            **self._top(level),
            **_format(image, secrets),
            "cache-size": image.metadata_cache,
            "discard-no-unref": self.disk.discard_no_unref if image.format == "qcow2" else None,
            "data-file": data,
            "file": storage,
        }
        self._add(properties, **below)
        return name

    def _secrets(self, part: Named[Image]) -> ImageSecrets:
        found = secrets_of(part, self.numbers[part.key])
        self.secrets += found.all
        return found

    def _backing(self, part: Named[Layer], level: _Level) -> dict[str, str | None]:
        """Return the property that names the node below an image; none if its header names it."""
        image = part.value
        if image.backing is None:
            return {}
        below = part.part("backing", image.backing)
        if image.backing.type is None:
            if image.backing != BackingImage():
                raise below.mistake(
                    "", "the backing image has no type", "add the type, such as 'file'"
                )
            return {"backing": None} if image.format in BACKED else {}
        if image.format not in BACKED:
            raise below.mistake(
                "",
                f"an image in {image.format or 'raw'} has no backing image",
                "remove the backing image, or write the format 'qcow2'",
            )
        depth = level.depth + 1
        return {
            "backing": self.add_image(below, _Level(f"{self.name}-{depth}", depth, read_only=True))
        }

    def _top(self, level: _Level) -> dict[str, object]:
        """Return what the topmost node of an image says about writing."""
        zeroes = self.disk.detect_zeroes if level.depth == 0 else None
        if zeroes == "unmap" and self.disk.discard != "unmap":
            zeroes = "on"
        return {
            "read-only": level.read_only,
            "discard": self.disk.discard,
            "detect-zeroes": zeroes,
            **self._cache(),
        }

    def _cache(self) -> dict[str, object]:
        cache = cache_of(self.disk)
        return {"cache": CACHES[cache]} if cache else {}

    def _add_storage(
        self,
        part: Named[Image],
        level: _Level,
        top: dict[str, object] | None,
        secrets: ImageSecrets,
    ) -> str:
        """Add the nodes that open an image; with *top*, the last of them is the topmost one."""
        under = {"auto-read-only": True, "discard": "unmap", **self._cache()}
        name = f"{level.prefix}-storage"
        cut = part.value.slice
        last = under if top is None else top
        protocol = self._protocol(part, secrets)
        self._add({**protocol, "node-name": name, **(last if cut is None else under)})
        if cut is None:
            return name
        above = f"{level.prefix}-slice"
        properties = {"driver": "raw", "file": name, "offset": cut.offset, "size": cut.size}
        self._add({**properties, "node-name": above, **last})
        return above

    def _protocol(self, part: Named[Image], secrets: ImageSecrets) -> dict[str, object]:
        image = part.value
        if image.type == "network":
            from bpferry.commandline.storage.network_images import network_node  # noqa: PLC0415 - large

            return network_node(part, secrets)
        if image.type == "dir":
            floppy = self.disk.device == "floppy"
            return {"driver": "vvfat", "dir": image.folder, "floppy": floppy, "rw": False}
        if image.type == "file":
            return {"driver": "file", "filename": image.file, "aio": self.disk.io}
        is_cdrom = self.disk.device == "cdrom" and is_host_cdrom(image.block_device)
        driver = "host_cdrom" if is_cdrom else "host_device"
        return {"driver": driver, "filename": image.block_device, "aio": self.disk.io}

    def _add(self, properties: dict[str, object], **null: str | None) -> None:
        """Add a node; None is left out in *properties*, and written as null in *null*."""
        kept = {name: value for name, value in properties.items() if value is not None}
        text = json.dumps({**kept, **null}, separators=(",", ":"))
        self.options.append(Option("-blockdev", text))
