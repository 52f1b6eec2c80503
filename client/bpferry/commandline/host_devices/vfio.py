# SPDX-License-Identifier: LGPL-2.1-or-later
"""PCI and mediated devices of the host, by VFIO (vfio-pci; hw/vfio/pci.c of QEMU 10.0)."""

from collections.abc import Iterator
from uuid import UUID

from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device, Found, HostVfio, Slot, on_off
from bpferry.commandline.system.boot import boot_indexes
from bpferry.domain.model.host_devices import HostDevice
from bpferry.domain.names import Named
from bpferry.errors import Unsupported


def pci_parts(device: Named[HostDevice], context: Context) -> Iterator[Found]:
    """Yield a PCI device."""
    yield from _check(device, context)
    yield from _check_team(device, context)
    if device.value.rom is False and (
        device.value.rom_bar is not None or device.value.rom_file is not None
    ):
        yield device.refusal("rom", "it is said that there is no ROM, and what it is like")
    host = _pci_address(device)
    yield HostVfio(device.key, f"/sys/bus/pci/devices/{host}", pci=True)
    properties = {
        "host": host,
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
        raise device.refusal("at", "a mediated device is named by its UUID")
    if device.value.model not in (None, "vfio-pci"):
        yield device.refusal("model", "a mediated device has the model 'vfio-pci'")
    path = f"/sys/bus/mdev/devices/{UUID(where.uuid)}"
    yield HostVfio(device.key, path, pci=False)
    yield _device(device, {"sysfsdev": path, **_common(device, context)})


def _device(device: Named[HostDevice], properties: dict[str, object]) -> Device:
    wanted = device.value
    driver = "vfio-pci-nohotplug" if wanted.boot_display else "vfio-pci"
    return Device(driver, device.id, device.key, properties, Slot.EXPRESS, wanted.address)


def _check(device: Named[HostDevice], context: Context) -> Iterator[Unsupported]:
    if not context.has_pci:
        yield device.refusal("", f"the machine '{context.machine_type}' has no PCI bus")
    if device.value.boot_display and not device.value.display:
        sentence = "it needs the display"
        yield device.refusal("boot-display", sentence, "switch 'display' on as well")


def _common(device: Named[HostDevice], context: Context) -> dict[str, object]:
    wanted = device.value
    return {
        "display": on_off(wanted.display),
        "ramfb": True if wanted.boot_display else None,
        "bootindex": boot_indexes(context.machine).get(device.key),
    }


def _pci_address(device: Named[HostDevice]) -> str:
    where = device.value.at
    if where is None or where.bus is None or where.slot is None:
        raise device.refusal("at", "a place on PCI is a bus, a slot and a function")
    if where.device is not None or where.uuid is not None or where.bus > 0xFF:  # noqa: PLR2004
        raise device.refusal("at", "a place on PCI is a domain, a bus, a slot and a function")
    return f"{where.domain or 0:04x}:{where.bus:02x}:{where.slot:02x}.{where.function or 0:x}"


def _check_team(device: Named[HostDevice], context: Context) -> Iterator[Unsupported]:
    """Refuse a device that stands in for what is no card of a team."""
    wanted = device.value
    if wanted.teaming is None:
        if wanted.stands_in_for is not None:
            yield device.refusal("stands-in-for", "it is not said that it stands in for a card")
        return
    cards = [card.alias for card in context.machine.cards if card.teaming == "persistent"]
    if wanted.stands_in_for not in cards:
        sentence = f"no card with the alias '{wanted.stands_in_for}' is a persistent one of a team"
        yield device.refusal("stands-in-for", sentence)


def _rom(device: Named[HostDevice]) -> dict[str, object]:
    wanted = device.value
    return {
        "rombar": None if wanted.rom_bar is None else int(wanted.rom_bar),
        "romfile": "" if wanted.rom is False else wanted.rom_file,
    }
