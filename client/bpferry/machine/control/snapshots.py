# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keep the content of a VM's disks at one moment, inside their qcow2 images.

All disks in one transaction (qapi/transaction.json): either each has the snapshot, or none. A
writable disk in another format cannot have one, and a snapshot without it would be of no use, so
that is refused.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from bpferry.errors import BadInput, NotReady, QemuError, Unsupported
from bpferry.machine.control.life import CHANGE_SECONDS, RunningVm
from bpferry.machine.control.server import Answer
from bpferry_wire.codec import Fields

TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
"""qemu-img takes a number for the id of another snapshot, so that is no tag."""


class _Drive(NamedTuple):
    """A writable disk of a VM that runs."""

    node: str
    format: str
    file: str
    tags: frozenset[str]
    """Of the snapshots that it has."""


class Snapshots:
    """The operation ``snapshot`` of one VM."""

    def __init__(self, vm: RunningVm) -> None:
        self._vm = vm

    async def take(self, fields: Fields) -> Answer:
        """Give every writable disk a snapshot."""
        tag = fields.text("tag")
        fields.done()
        if not TAG.fullmatch(tag) or tag.isdecimal():
            raise BadInput(
                f"'{tag}' cannot be the name of a snapshot",
                "use up to 63 letters, digits and _ . -, and not only digits",
            )
        self._vm.check_settled()
        drives = list(_writable(await self._vm.ask_qemu("query-block")))
        self._check(drives)
        _check_new(tag, drives)
        actions = [
            {
                "type": "blockdev-snapshot-internal-sync",
                "data": {"device": drive.node, "name": tag},
            }
            for drive in drives
        ]
        await self._vm.ask_qemu("transaction", {"actions": actions}, CHANGE_SECONDS)
        return Answer({"disks": [drive.file for drive in drives]})

    def _check(self, drives: list[_Drive]) -> None:
        if not drives:
            raise Unsupported(f"'{self._vm.name}' has no disk that it may write to")
        for drive in drives:
            if drive.format != "qcow2":
                raise Unsupported(
                    f"'{drive.file}' is not in the format 'qcow2', and others have no snapshots",
                    "while the VM does not run, convert it: qemu-img convert -O qcow2, and name "
                    "the new file and its format in the description",
                )


def _writable(answer: object) -> Iterator[_Drive]:
    """Yield the writable disks in the answer to ``query-block``."""
    if not isinstance(answer, list):
        raise QemuError("QEMU's answer about its disks is not a list")
    for block in answer:
        inserted = block.get("inserted") if isinstance(block, dict) else None
        if isinstance(inserted, Mapping) and not inserted.get("ro"):
            yield _Drive(
                node=str(inserted.get("node-name")),
                format=str(inserted.get("drv")),
                file=str(inserted.get("file")),
                tags=frozenset(_tags(inserted.get("image"))),
            )


def _tags(image: object) -> Iterator[str]:
    """Yield the names of the snapshots that an image has (ImageInfo, qapi/block-core.json)."""
    snapshots = image.get("snapshots") if isinstance(image, Mapping) else None
    for snapshot in snapshots if isinstance(snapshots, list) else ():
        if isinstance(snapshot, Mapping):
            yield str(snapshot.get("name"))


def _check_new(tag: str, drives: list[_Drive]) -> None:
    for drive in drives:
        if tag in drive.tags:
            image = shlex.quote(drive.file)
            raise NotReady(
                f"'{drive.file}' has a snapshot '{tag}' already",
                "choose another name; or, while the VM does not run, remove that one: qemu-img "
                f"snapshot -d {tag} {image}",
            )
