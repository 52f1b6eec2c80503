# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the firmware boots from: kernels that QEMU loads itself, and the order of devices."""

from collections.abc import Iterator, Sequence
from typing import Final

from bpferry.commandline.context import Context, unsupported
from bpferry.commandline.parts import Option, Part, join
from bpferry.domain.model.machine import Machine

DISK_DEVICES: Final = {"disk": "hd", "lun": "hd", "cdrom": "cdrom", "floppy": "fd"}
"""The word for each kind of drive among those to boot from."""


def boot_indexes(machine: Machine) -> dict[str, int]:
    """Return the place in the boot order of each device that has one, by its key.

    Devices that say it themselves come in their own order. Otherwise the kinds count that the
    machine names, each for its first device, as in libvirt; without any, it is the first disk.

    Raises:
        Unsupported: both are there, or two devices have the same place.
    """
    own = _own_orders(machine)
    if own and machine.boot:
        raise unsupported("boot", "some devices have a boot order of their own", "use one of both")
    if own:
        return own
    first = _first_of_each_kind(machine)
    kinds = list(dict.fromkeys(machine.boot or ("hd",)))
    return {
        first[kind]: machine.boot.index(kind) + 1 if machine.boot else 1
        for kind in kinds
        if kind in first
    }


def _own_orders(machine: Machine) -> dict[str, int]:
    found: dict[str, int] = {}
    families: Sequence[tuple[str, Sequence[object]]] = (
        ("disks", machine.disks),
        ("cards", machine.cards),
        ("redirected-devices", machine.redirected_devices),
        ("filesystems", machine.filesystems),
    )
    for name, devices in families:
        for index, device in enumerate(devices):
            order = getattr(device, "boot_order", None)
            if order is None:
                continue
            key = f"{name}[{index}]"
            if order in found.values():
                raise unsupported(f"{key}.boot-order", f"another device has place {order} as well")
            found[key] = order
    return found


def _first_of_each_kind(machine: Machine) -> dict[str, str]:
    first = {"network": "cards[0]"} if machine.cards else {}
    for index, disk in enumerate(machine.disks):
        first.setdefault(DISK_DEVICES[disk.device], f"disks[{index}]")
    return first


def parts(context: Context) -> Iterator[Part]:
    """Yield how the firmware boots, and what QEMU loads itself."""
    machine = context.machine
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


def _direct(context: Context) -> Iterator[Part]:
    machine = context.machine
    if machine.kernel is None:
        _refuse_without_kernel(machine)
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
            raise unsupported("shim", "this QEMU loads no shim (version 10.0 and newer do)")
        yield Option("-shim", machine.shim)
    if machine.device_tree is not None:
        yield Option("-dtb", machine.device_tree)


def _refuse_without_kernel(machine: Machine) -> None:
    for key, value in (
        ("initrd", machine.initrd),
        ("command-line", machine.command_line),
        ("shim", machine.shim),
    ):
        if value:
            raise unsupported(key, "it means nothing without a kernel", "name the kernel as well")
