# SPDX-License-Identifier: LGPL-2.1-or-later
"""CDs and floppies that need not exist when the VM starts (``startupPolicy='optional'``)."""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from bpferry.domain.document import Document
from bpferry.domain.remaining import mapped
from bpferry.machine.faults import Fault
from bpferry.machine.refusals import placed

if TYPE_CHECKING:
    from bpferry.domain.model.disks import Disk


def without_absent_media(document: Document) -> tuple[Document, tuple[Fault, ...]]:
    """Return *document* with empty drives in place of optional media that are not there.

    The second value has a warning for each, with its place. A disk without its medium would not be
    a disk, so it stays, and is reported missing like any other file.
    """
    warnings = []

    def emptied(number: int, disk: "Disk") -> "Disk":
        path = disk.file or disk.block_device
        if path is None or not _is_optional(disk) or _is_readable(path):
            return disk
        field = "file" if disk.file else "block-device"
        message = f"cannot read '{path}', which is optional: the drive stays empty"
        fault = Fault(f"disks[{number}].{field}", "warning", message, kind="host")
        warnings.append(placed(fault, document))
        return msgspec.structs.replace(disk, file=None, block_device=None, backing=None)

    disks = mapped(document.machine.disks, emptied)
    machine = msgspec.structs.replace(document.machine, disks=disks)
    return replace(document, machine=machine), tuple(warnings)


def _is_optional(disk: "Disk") -> bool:
    return disk.startup_policy == "optional" and disk.device in ("cdrom", "floppy")


def _is_readable(path: str) -> bool:
    try:
        with Path(path).open("rb"):
            return True
    except OSError:
        return False
