# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a disk that is plugged in becomes: its target, and QEMU's commands."""

import itertools
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bpferry.commandline.context import Context
from bpferry.commandline.implicit import complete
from bpferry.commandline.parts import Device, Option
from bpferry.commandline.storage.build import disk_parts
from bpferry.commandline.storage.drives import disks_of
from bpferry.domain.document import Document
from bpferry.domain.model.disks import Disk
from bpferry.domain.model.images import Format
from bpferry.domain.model.machine import Machine
from bpferry.domain.origins import Origins
from bpferry.domain.remaining import Remaining, extended, numbered, total_of
from bpferry.domain.shorthand_disks import PREFIXES, target_names
from bpferry.errors import NotReady, Unsupported, all_in_one
from bpferry.machine.access import find_unwritable_images
from bpferry.machine.control.hot_plug.steps import Command
from bpferry.machine.control.life import RunningVm
from bpferry.machine.files import find_missing_files
from bpferry.machine.image_formats import find_wrong_formats
from bpferry.machine.image_locks import find_locked_images
from bpferry.machine.image_twins import find_twins
from bpferry.machine.refusals import located

Bus = Literal["virtio", "scsi", "usb"]

NEW: Final = "new disk"
"""What messages call it."""

READ_ONLY: Final = "--read-only"
"""How `bpferry attach-disk` says that it is not written to."""


class WantedDisk(msgspec.Struct, frozen=True):
    """A disk that is to be plugged in."""

    path: str
    format: Format
    bus: Bus
    is_block_device: bool
    read_only: bool


class DiskCommands(Struct, frozen=True):
    """What QEMU is told of one disk."""

    device: Device
    """Without its place."""
    nodes: tuple[Command, ...]
    """The block nodes, those below first."""


def disk_of(wanted: WantedDisk, machine: Machine, spent: Collection[str]) -> Disk:
    """Return the disk *wanted* with a target that no disk of *machine* has, nor is in *spent*.

    Raises:
        NotReady: all targets are taken.
    """
    used = {disk.target for disk in machine.disks} | set(spent)
    target = next(target_names(PREFIXES[wanted.bus], used), None)
    if target is None:
        raise NotReady(f"no target is left for a disk on {wanted.bus}", "take a disk out first")
    return Disk(
        type="block" if wanted.is_block_device else "file",
        format=wanted.format,
        target=target,
        bus=wanted.bus,
        read_only=wanted.read_only,
        file=None if wanted.is_block_device else wanted.path,
        block_device=wanted.path if wanted.is_block_device else None,
    )


def with_disk(vm: RunningVm, disk: Disk) -> Machine:
    """Return the VM as it will be with *disk*."""
    return msgspec.structs.replace(vm.machine, disks=extended(vm.machine.disks, [disk]))


def check(vm: RunningVm, whole: Machine) -> None:
    """Raise an error unless QEMU can use the last disk of *whole*, the VM as it will be.

    Raises:
        NotReady: its image is missing, in another format, used by somebody, or not ours to write.
    """
    number = total_of(whole.disks) - 1
    own = [pair for pair in numbered(whole.disks) if pair[0] == number]
    alone = msgspec.structs.replace(whole, disks=Remaining(own, number + 1))
    document = replace(vm.prepared.document, machine=alone, origins=Origins(Path(NEW)), kind="toml")
    _stop_at_missing(document)
    unwritable = find_unwritable_images(alone, READ_ONLY)
    found = (find_wrong_formats(alone), find_twins(whole), unwritable, find_locked_images(alone))
    for fault in itertools.chain(*found):
        raise located(fault, document)


def _stop_at_missing(document: Document) -> None:
    for fault in find_missing_files(document):
        raise fault


def disk_commands(vm: RunningVm, whole: Machine) -> DiskCommands:
    """Return what QEMU is told of the last disk of *whole*.

    Raises:
        Unsupported: the machine cannot take it, or not while it runs.
    """
    start = vm.prepared.draft.context
    completed = complete(replace(start, machine=whole))
    context = replace(start, machine=completed.machine)
    key = f"disks[{total_of(whole.disks) - 1}]"
    errors = [one.error for one in completed.refusals if _is_about(one.error, key)]
    device = next((one for one in disks_of(context) if one.key == key), None)
    found = [] if device is None else list(disk_parts(device, context))
    errors += [one for one in found if isinstance(one, Unsupported)]
    if device is not None:
        errors += _missing_controller(key, str(device.value.bus), context, start)
    if errors:
        document = replace(vm.prepared.document, origins=Origins(Path(NEW)), kind="toml")
        raise all_in_one([located(one, document) for one in errors])
    (frontend,) = (one for one in found if isinstance(one, Device))
    return DiskCommands(frontend, tuple(Command("blockdev-add", node) for node in nodes_in(found)))


def _is_about(error: Unsupported, key: str) -> bool:
    return (error.element or "").startswith(key)


def _missing_controller(
    key: str, bus: str, context: Context, start: Context
) -> Iterator[Unsupported]:
    """Yield the refusal of a disk whose controller is not in the VM."""
    have = {(one.type, one.index) for one in start.machine.controllers}
    needed = {(one.type, one.index) for one in context.machine.controllers}
    if bus in {kind for kind, _ in needed - have}:
        yield Unsupported(
            f"the VM has no {bus} controller with room for another disk",
            "use the bus 'virtio', or write the disk into the VM's description",
            key,
        )


def nodes_in(parts: Collection[object]) -> Iterator[dict[str, object]]:
    """Yield the block nodes among *parts* of a command line."""
    for part in parts:
        if isinstance(part, Option) and part.name == "-blockdev":
            yield json.loads(part.value or "{}")


def removal_of(nodes: Collection[dict[str, object]], target: str) -> tuple[Command, ...]:
    """Return what removes those of *nodes* that belong to the disk *target*, topmost first."""
    names = [str(node["node-name"]) for node in nodes]
    own = [name for name in names if name.startswith(f"{target}-")]
    return tuple(Command("blockdev-del", {"node-name": name}) for name in reversed(own))
