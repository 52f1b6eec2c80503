# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host's devices of all types."""

from collections.abc import Callable, Iterator
from typing import Final

from bpferry.commandline.applicable import check_address, refuse_others
from bpferry.commandline.attempt import attempt, attempt_section
from bpferry.commandline.context import Context
from bpferry.commandline.host_devices.scsi import scsi_parts
from bpferry.commandline.host_devices.usb import usb_parts
from bpferry.commandline.host_devices.vfio import (
    common_parts,
    mediated_parts,
    pci_address,
    pci_parts,
)
from bpferry.commandline.parts import Found, Part
from bpferry.domain.model.host_devices import HostDevice
from bpferry.domain.names import Named, named

OF_ALL: Final = frozenset({"mode", "type", "managed", "alias", "address", "at", "boot_order"})
OF_VFIO: Final = frozenset({"display", "boot_display"})
OF_PCI: Final = frozenset({"driver", "rom", "rom_bar", "rom_file", "teaming", "stands_in_for"})
OF_SCSI: Final = frozenset({"model", "protocol", "wwpn"})
OF_USB: Final = frozenset({"vendor", "product", "startup_policy", "guest_reset"})

Builder = Callable[[Named[HostDevice], Context], Iterator[Found]]

BUILDERS: Final[dict[str, tuple[Builder, frozenset[str], str]]] = {
    "usb": (usb_parts, OF_ALL | OF_USB, "usb"),
    "pci": (pci_parts, OF_ALL | OF_VFIO | OF_PCI, "pci"),
    "scsi_host": (scsi_parts, OF_ALL | OF_SCSI, "pci"),
    "mdev": (mediated_parts, OF_ALL | OF_VFIO | {"model"}, "pci"),
}
"""What builds each type, the fields that mean something for it, and the guest's bus."""


def parts(context: Context) -> Iterator[Part]:
    """Yield all of them, except those that the document keeps from the guest."""
    for device in named(context.machine.host_devices, "host-devices", "hostdev"):
        yield from attempt(_device, device, context)
    yield from attempt_section(common_parts, context)


def _device(device: Named[HostDevice], context: Context) -> Iterator[Found]:
    if _is_given_before(device, context):
        raise device.mistake("", "the guest already has this host device", "leave one out")
    build, meaningful, bus = BUILDERS[device.value.type]
    yield from refuse_others(device, meaningful, f"a device of type '{device.value.type}'")
    if device.value.is_unassigned:
        return
    yield from check_address(device, bus)
    yield from build(device, context)


def _is_given_before(device: Named[HostDevice], context: Context) -> bool:
    """Say whether an earlier device of the VM is the same one of the host."""
    mine = _itself(device.value, context)
    earlier = context.machine.host_devices[: device.number]
    return mine is not None and any(mine == _itself(other, context) for other in earlier)


def _itself(hostdev: HostDevice, context: Context) -> object:
    """Return what distinguishes a device of the host from all others, as far as it is known."""
    if hostdev.type == "usb":
        node = context.host_nodes.get(hostdev.which)
        return (node.path or None) if node else None
    if hostdev.type == "pci":
        return pci_address(hostdev.at)
    return hostdev.wwpn if hostdev.type == "scsi_host" else hostdev.at
