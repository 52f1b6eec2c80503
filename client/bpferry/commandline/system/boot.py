# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the firmware boots from: kernels that QEMU loads itself, and the order of devices."""

from collections.abc import Iterator, Sequence
from typing import Final

from bpferry.commandline.context import Context, mistaken, unsupported
from bpferry.commandline.parts import Found, Option, join
from bpferry.domain.forms import called
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import Named, cards_of, listed
from bpferry.errors import Unsupported

DISK_DEVICES: Final = {"disk": "hd", "lun": "hd", "cdrom": "cdrom", "floppy": "fd"}
"""The word for each kind of drive in a boot order."""


def boot_indexes(machine: Machine) -> dict[str, int]:
    """Return the place in the boot order of each device that has one, by its key.

    Devices with a boot order of their own are in that order. Otherwise the kinds that the machine
    names count, each for its first device, as in libvirt; by default it is the first disk.
    """
    own = {device.key: order for device, order in _own_orders(machine)}
    if own:
        return own
    first = _first_of_each_kind(machine)
    kinds = list(dict.fromkeys(machine.boot or ("hd",)))
    return {
        first[kind]: machine.boot.index(kind) + 1 if machine.boot else 1
        for kind in kinds
        if kind in first
    }


def _own_orders(machine: Machine) -> Iterator[tuple[Named[object], int]]:
    """Yield each device that has a place in the boot order of its own, and the place."""
    families: Sequence[tuple[str, Sequence[object]]] = (
        ("disks", machine.disks),
        ("cards", machine.cards),
        ("redirected-devices", machine.redirected_devices),
        ("filesystems", machine.filesystems),
        ("host-devices", machine.host_devices),
    )
    for name, devices in families:
        for device in listed(devices, name):
            order = getattr(device.value, "boot_order", None)
            if order is not None:
                yield device, order


def _check_orders(machine: Machine) -> Iterator[Unsupported]:
    """Yield a refusal if the order is given in two ways, or two devices have the same place."""
    seen: set[int] = set()
    for device, order in _own_orders(machine):
        if order in seen:
            yield device.mistake(
                "boot-order",
                f"another device has the boot order {order} too",
                "give each device an order of its own",
            )
        seen.add(order)
    if seen and machine.boot:
        yield mistaken("boot", "some devices have a boot order of their own", "use one of the two")


def _first_of_each_kind(machine: Machine) -> dict[str, str]:
    first: dict[str, str] = {}
    for card in cards_of(machine):
        first.setdefault("network", card.key)
    for disk in listed(machine.disks, "disks"):
        first.setdefault(DISK_DEVICES[disk.value.device], disk.key)
    return first


def parts(context: Context) -> Iterator[Found]:
    """Yield how the firmware boots, and what QEMU loads itself."""
    machine = context.machine
    yield from _check_orders(machine)
    menu = machine.boot_menu
    yield Option(
        "-boot",
        join(
            "",
            menu=menu.enabled if menu else None,
            reboot_timeout=machine.reboot_timeout,
            splash_time=menu.timeout if menu else None,
            strict=True,
        ),
    )
    yield from _direct(context)
    for table in machine.acpi_tables:
        signature = None if table.type == "raw" else table.type.upper()
        yield Option("-acpitable", join("", sig=signature, file=table.path))


def _direct(context: Context) -> Iterator[Found]:
    machine = context.machine
    if machine.kernel is None:
        yield from _refuse_without_kernel(machine)
        if machine.device_tree is not None:
            yield Option("-dtb", machine.device_tree)
        return
    yield Option("-kernel", machine.kernel)
    if machine.initrd is not None:
        yield Option("-initrd", machine.initrd)
    if machine.command_line:
        yield Option("-append", machine.command_line)
    if machine.shim is not None:
        if not context.capabilities.has_machine_property(context.machine_type, "shim"):
            yield unsupported(
                "shim",
                "this QEMU loads no shim (version 10.0 and newer do)",
                "leave the shim out, or use a newer QEMU",
            )
        yield Option("-shim", machine.shim)
    if machine.device_tree is not None:
        yield Option("-dtb", machine.device_tree)


def _refuse_without_kernel(machine: Machine) -> Iterator[Unsupported]:
    for key, value in (
        ("initrd", machine.initrd),
        ("command-line", machine.command_line),
        ("shim", machine.shim),
    ):
        if value:
            name = called(Machine, key.replace("-", "_"))
            yield mistaken(
                key,
                f"{name} has no meaning without {called(Machine, 'kernel')}",
                f"name the kernel too, or leave out {name}",
            )
