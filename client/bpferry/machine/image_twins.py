# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether two disks of the VM use one file in a way that QEMU does not allow.

QEMU locks an image for each disk apart (``image_locks``), so that one disk is in the way of another
as if it were another VM's.
"""

import os
import stat
from collections.abc import Iterator
from typing import Final

from bpferry.domain.forms import called
from bpferry.domain.model.disks import Disk
from bpferry.domain.model.machine import Machine
from bpferry.errors import NotReady
from bpferry.machine.images import Image, images_of

SHARING: Final = (
    f"; two paths to one raw image work if both say {called(Disk, 'shareable')}, for a guest that "
    "knows of it"
)


def find_twins(machine: Machine) -> Iterator[NotReady]:
    """Yield the images that another disk of *machine* uses too, if one of the two writes to it."""
    seen: dict[tuple[int, int], list[Image]] = {}
    for image in images_of(machine):
        try:
            identity = _identity(image.path)
        except OSError:
            continue  # It is not there, which others say.
        earlier = seen.setdefault(identity, [])
        other = next((one for one in earlier if _is_in_the_way(one, image)), None)
        if other is not None:
            yield _twin(image, other)
        earlier.append(image)


def _identity(path: str) -> tuple[int, int]:
    """Return what tells the file or block device at *path* from all others."""
    found = os.stat(path)  # noqa: PTH116 - the path is text
    return (0, found.st_rdev) if stat.S_ISBLK(found.st_mode) else (found.st_dev, found.st_ino)


def _is_in_the_way(one: Image, other: Image) -> bool:
    if one.disk is other.disk or not (one.writable or other.writable):
        return False
    return not all(each.disk.shareable and each.is_raw and not each.depth for each in (one, other))


def _twin(image: Image, other: Image) -> NotReady:
    does = "write to it" if image.writable and other.writable else "use it, and one writes to it"
    raw = image.is_raw and other.is_raw
    return NotReady(
        f"cannot use '{image.path}' twice: two disks of this VM {does}",
        "give each disk an image of its own" + (SHARING if raw else ""),
        image.key,
    )
