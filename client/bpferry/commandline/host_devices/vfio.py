# SPDX-License-Identifier: LGPL-2.1-or-later
"""PCI and mediated devices of the host, by VFIO (vfio-pci; hw/vfio/pci.c of QEMU 10.0).

QEMU finds a device by its name and opens the file of its group. If only the newer files belong to
the user, bpferry opens those, and QEMU gets two fds: of the device, and of iommufd.

The device accesses all of the guest's memory directly, so that memory is locked on the host.
"""

from collections.abc import Iterator
from typing import Final
from uuid import UUID

from bpferry.commandline.context import Context
from bpferry.commandline.parts import (
    Device,
    Found,
    LockedMemory,
    OpenDevice,
    Option,
    Slot,
    json_of,
    on_off,
)
from bpferry.commandline.system.boot import boot_indexes
from bpferry.domain.model.host_devices import HostAddress, HostDevice
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import Named, named
from bpferry.errors import Unsupported

IOMMUFD: Final = "iommufd0"
IOMMUFD_NODE: Final = "/dev/iommu"

MDEV_FOLDER: Final = "/sys/bus/mdev/devices"

GIB: Final = 2**30
"""What is mapped for a device besides the guest's memory; libvirt allows as much
(qemuDomainGetMemLockLimitBytes)."""


def pci_parts(device: Named[HostDevice], context: Context) -> Iterator[Found]:
    """Yield a PCI device."""
    yield from _check(device, context)
    yield from _check_team(device, context)
    if device.value.rom is False and (
        device.value.rom_bar is not None or device.value.rom_file is not None
    ):
        yield device.mistake(
            "rom",
            "the ROM is disabled and described at the same time",
            "leave out the file of the ROM, or switch the ROM on",
        )
    host = _pci_address(device)
    yield from _node_of(device, context)
    properties = {
        **_named_by(device, {"host": host}, context),
        **_common(device, context),
        "failover_pair_id": device.value.stands_in_for,
        **_rom(device),
    }
    yield _device(device, properties)


def mediated_parts(device: Named[HostDevice], context: Context) -> Iterator[Found]:
    """Yield a mediated device, such as a part of a graphics card."""
    yield from _check(device, context)
    where = device.value.at
    if where is None or where.uuid is None:
        raise device.mistake(
            "at",
            "a mediated device is named by its UUID",
            "name the UUID, which is in /sys/bus/mdev/devices",
        )
    if device.value.model not in (None, "vfio-pci"):
        yield device.refusal(
            "model",
            "a mediated device has the model 'vfio-pci'",
            "write 'vfio-pci', or leave the model out",
        )
    yield from _node_of(device, context)
    by_path: dict[str, object] = {"sysfsdev": f"{MDEV_FOLDER}/{UUID(where.uuid)}"}
    properties = {**_named_by(device, by_path, context), **_common(device, context)}
    yield _device(device, properties)


def common_parts(context: Context) -> Iterator[Found]:
    """Yield what all of them need: an object for iommufd, and locked memory."""
    devices = [
        device
        for device in named(context.machine.host_devices, "host-devices", "hostdev")
        if device.value.type in ("pci", "mdev") and not device.value.is_unassigned
    ]
    if not devices:
        return
    if any(_is_by_iommufd(device, context) for device in devices):
        yield OpenDevice(IOMMUFD, IOMMUFD_NODE, devices[0].key)
        described = {"qom-type": "iommufd", "id": IOMMUFD, "fd": context.fd(IOMMUFD)}
        yield Option("-object", json_of(described))
    # Behind an IOMMU in the guest, each device has its own map of the guest's memory.
    times = len(devices) if context.machine.iommu else 1
    yield LockedMemory(times * _most_memory(context.machine) + GIB, devices[0].key)


def _most_memory(machine: Machine) -> int:
    """Return the bytes that the guest can have once all possible modules are added."""
    modules = sum(module.size for module in machine.memory_devices)
    in_nodes = sum(cell.memory for cell in machine.cpu.numa)
    return max(
        machine.memory, in_nodes + modules, machine.max_memory.size if machine.max_memory else 0
    )


def _is_by_iommufd(device: Named[HostDevice], context: Context) -> bool:
    node = context.host_nodes.get(device.value.which)
    return node is not None and node.by_iommufd


def _node_of(device: Named[HostDevice], context: Context) -> Iterator[Found]:
    """Yield the file that bpferry opens; QEMU opens groups itself."""
    node = context.host_nodes.get(device.value.which)
    if node is not None and node.by_iommufd:
        yield OpenDevice(_fd_name(device), node.path, device.key)


def _fd_name(device: Named[HostDevice]) -> str:
    return f"{device.id}.vfio"


def _named_by(
    device: Named[HostDevice], words: dict[str, object], context: Context
) -> dict[str, object]:
    """Return how QEMU finds the device: by *words*, or by two fds."""
    if _is_by_iommufd(device, context):
        return {"iommufd": IOMMUFD, "fd": context.fd(_fd_name(device))}
    return words


def _device(device: Named[HostDevice], properties: dict[str, object]) -> Device:
    wanted = device.value
    driver = "vfio-pci-nohotplug" if wanted.boot_display else "vfio-pci"
    return Device(
        driver, device.id, device.key, properties, slot=Slot.EXPRESS, address=wanted.address
    )


def _check(device: Named[HostDevice], context: Context) -> Iterator[Unsupported]:
    if not context.has_pci:
        yield device.refusal(
            "",
            f"the machine '{context.machine_type}' has no PCI bus",
            "remove the device, or choose a machine type with PCI, such as 'q35'",
        )
    if device.value.display and not context.machine.graphics:
        yield device.mistake("display", "nothing shows it", "add graphics")
    if device.value.boot_display and not device.value.display:
        sentence = "it needs the display"
        yield device.mistake("boot-display", sentence, "switch 'display' on as well")


def _common(device: Named[HostDevice], context: Context) -> dict[str, object]:
    wanted = device.value
    return {
        "display": on_off(wanted.display),
        "ramfb": True if wanted.boot_display else None,
        "bootindex": boot_indexes(context.machine).get(device.key),
    }


def _pci_address(device: Named[HostDevice]) -> str:
    where = device.value.at
    found = pci_address(where)
    if found is None:
        raise device.mistake(
            "at", "a place on PCI is a domain, a bus, a slot and a function", "'lspci -D' shows it"
        )
    return found


def pci_address(where: HostAddress | None) -> str | None:
    """Return a place on PCI such as 0000:06:12.5; None if *where* is not one."""
    if where is None or where.bus is None or where.slot is None:
        return None
    if where.device is not None or where.uuid is not None or where.bus > 0xFF:  # noqa: PLR2004
        return None
    return f"{where.domain or 0:04x}:{where.bus:02x}:{where.slot:02x}.{where.function or 0:x}"


def _check_team(device: Named[HostDevice], context: Context) -> Iterator[Unsupported]:
    """Refuse a device that stands in for something that is not a card of a team."""
    wanted = device.value
    if wanted.teaming is None:
        if wanted.stands_in_for is not None:
            yield device.mistake(
                "stands-in-for",
                "its card of the team is not named",
                "name the card in a team of type 'persistent'",
            )
        return
    cards = [card.alias for card in context.machine.cards if card.teaming == "persistent"]
    if wanted.stands_in_for not in cards:
        sentence = f"no card with the alias '{wanted.stands_in_for}' is a persistent one of a team"
        yield device.mistake(
            "stands-in-for", sentence, "name a card of this VM that is of a virtio model"
        )


def _rom(device: Named[HostDevice]) -> dict[str, object]:
    wanted = device.value
    return {
        "rombar": None if wanted.rom_bar is None else int(wanted.rom_bar),
        "romfile": "" if wanted.rom is False else wanted.rom_file,
    }
