# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host's devices of all types."""

from collections.abc import Callable, Iterator
from typing import Final

from bpferry.commandline.applicable import check_address, refuse_others
from bpferry.commandline.attempt import attempt
from bpferry.commandline.context import Context
from bpferry.commandline.host_devices.scsi import scsi_parts
from bpferry.commandline.host_devices.usb import usb_parts
from bpferry.commandline.host_devices.vfio import mediated_parts, pci_parts
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
    """Yield all of them, but those that the document keeps from the guest."""
    for device in named(context.machine.host_devices, "host-devices", "hostdev"):
        yield from attempt(_device, device, context)


def _device(device: Named[HostDevice], context: Context) -> Iterator[Found]:
    build, meaningful, bus = BUILDERS[device.value.type]
    yield from refuse_others(device, meaningful, f"a device of type '{device.value.type}'")
    where = device.value.address
    if where is not None and where.type == "unassigned":
        return
    yield from check_address(device, bus)
    yield from build(device, context)
