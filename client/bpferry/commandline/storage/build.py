# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks, CD drives and floppies: block nodes and the devices on them."""

import json
from collections.abc import Iterator

from bpferry.commandline.attempt import attempt, attempt_section
from bpferry.commandline.buses.drive_addresses import drive_of
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device, Environment, Found, Option, Part
from bpferry.commandline.secrets import secret_parts
from bpferry.commandline.storage.blockdev import disk_nodes, has_medium
from bpferry.commandline.storage.disk_checks import check_disk
from bpferry.commandline.storage.drives import disks_of, driver_of, properties_of, slot_of
from bpferry.commandline.storage.image_secrets import image_numbers, images_of
from bpferry.commandline.storage.throttle import group_options, groups_of
from bpferry.commandline.system.boot import boot_indexes
from bpferry.domain.model.disks import Disk
from bpferry.domain.names import Named
from bpferry.errors import Unsupported


def parts(context: Context) -> Iterator[Part]:
    """Yield the nodes and devices of all drives, which have target, bus and address."""
    yield from attempt_section(group_options, context)
    yield from _floppy_controller(context, boot_indexes(context.machine))
    for device in disks_of(context):
        yield from attempt(disk_parts, device, context)
    yield from attempt_section(_agent, context)


def disk_parts(device: Named[Disk], context: Context) -> Iterator[Found]:
    """Yield the nodes of one disk, its device, and what is refused of it."""
    disk = device.value
    yield from check_disk(device, context)
    behind: dict[str, object] = {}
    drive = ""
    if disk.type == "vhostuser":
        from bpferry.commandline.storage import vhost_user_disks as served  # noqa: PLC0415 - rare

        yield from served.check_vhost_user(device, context)
        behind["chardev"] = served.chardev_of(device)
        yield served.socket_of(device, context)
    elif has_medium(disk):
        numbers = image_numbers(context.machine)
        nodes = disk_nodes(device, groups_of(device, context.machine), numbers)
        yield from _check_drivers(nodes.options, device, context)
        for secret in nodes.secrets:
            yield from secret_parts(secret, context)
        yield from nodes.options
        drive = nodes.top
    if disk.bus != "fdc":
        behind["bootindex"] = boot_indexes(context.machine).get(device.key)
    driver = driver_of(disk)
    yield Device(
        context.virtio(driver, disk.model) if disk.bus == "virtio" else driver,
        device.id,
        device.key,
        properties_of(device, drive, context) | behind,
        slot=slot_of(disk),
        address=disk.address if disk.bus in ("virtio", "usb") else None,
    )


def _agent(context: Context) -> Iterator[Found]:
    """Yield where QEMU finds the ssh agent, of which it can use only one."""
    agent: str | None = None
    images = (image for disk in disks_of(context) for image in images_of(disk))
    for image in images:
        found = image.value.agent
        if found is not None and agent not in (None, found):
            yield image.refusal(
                "agent",
                f"QEMU uses one agent only, here '{agent}'",
                "use one for all",
            )
        agent = agent or found
    if agent is not None:
        yield Environment("SSH_AUTH_SOCK", agent)


def _check_drivers(
    nodes: tuple[Option, ...], device: Named[Disk], context: Context
) -> Iterator[Unsupported]:
    """Refuse nodes whose drivers this QEMU was built without."""
    known = context.capabilities.blockdevs
    for node in nodes:
        driver = json.loads(node.value or "{}")["driver"]
        if known and driver not in known:
            yield device.refusal(
                "",
                f"QEMU {context.capabilities.version_text} has no block driver '{driver}'",
                "choose another format or protocol, or a QEMU that has it",
            )


def _floppy_controller(context: Context, indexes: dict[str, int]) -> Iterator[Part]:
    """Yield the floppy controller if the machine has none, and the boot order of its drives."""
    boot: dict[str, object] = {}
    present = False
    for device in disks_of(context):
        if device.value.bus == "fdc":
            present = True
            letter = "AB"[drive_of(device.value).unit]
            boot[f"bootindex{letter}"] = indexes.get(device.key)
    if present and context.family == "q35":
        yield Device("isa-fdc", "fdc0", "", boot)
        return
    for name, value in boot.items():
        if value is not None:
            yield Option("-global", f"isa-fdc.{name}={value}")
