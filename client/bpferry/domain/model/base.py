# SPDX-License-Identifier: LGPL-2.1-or-later
"""What many parts of a VM have in common: an address, a name, the options of a virtio device."""

from typing import Annotated, Literal

import msgspec

from bpferry.domain.binding import At, Form, Placed, Table

UUID_PATTERN = r"^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32})$"

Uuid = Annotated[
    str,
    msgspec.Meta(
        pattern=UUID_PATTERN,
        description="a UUID of 32 hexadecimal digits, with hyphens or without",
    ),
]
"""With or without hyphens."""


class Address(Table, frozen=True, kw_only=True):
    """Where a device sits. Which fields count depends on the type."""

    type: Placed[
        Literal[
            "pci",
            "drive",
            "virtio-serial",
            "ccid",
            "usb",
            "isa",
            "dimm",
            "virtio-mmio",
            "unassigned",
        ],
        At("@type"),
    ]
    domain: Placed[int | None, At("@domain")] = None
    bus: Placed[int | None, At("@bus")] = None
    slot: Placed[int | None, At("@slot")] = None
    function: Placed[int | None, At("@function")] = None
    multifunction: Placed[bool | None, At("@multifunction", Form.ON_OFF)] = None
    controller: Placed[int | None, At("@controller")] = None
    target: Placed[int | None, At("@target")] = None
    unit: Placed[int | None, At("@unit")] = None
    port: Placed[str | None, At("@port")] = None
    """A number, or for USB the path through hubs, such as 1.2."""
    iobase: Placed[int | None, At("@iobase", Form.HEX)] = None
    irq: Placed[int | None, At("@irq", Form.HEX)] = None
    base: Placed[int | None, At("@base", Form.HEX)] = None

    @property
    def is_pci_place(self) -> bool:
        """Whether it names a place on PCI.

        All zeros ask for any, as in libvirt (virDeviceInfoPCIAddressIsWanted).
        """
        return self.type == "pci" and bool(self.domain or self.bus or self.slot)


Id = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z][A-Za-z0-9._-]{0,126}$",
        description="a name of letters, digits and . _ - that begins with a letter",
    ),
]
"""What QEMU takes as an id (util/id.c, id_wellformed)."""


AcpiIndex = Annotated[int, msgspec.Meta(ge=1, le=16383)]
"""Up to ONBOARD_INDEX_MAX (hw/acpi/pci.c)."""


class Device(Table, frozen=True, kw_only=True):
    """What every device may have."""

    alias: Placed[Id | None, At("alias/@name")] = None
    """The id that the user chose; libvirt requires it to begin with ``ua-``."""
    address: Placed[Address | None, At("address")] = None
    acpi_index: Placed[AcpiIndex | None, At("acpi/@index")] = None
    """A number by which the guest may name the device, if it is on PCI."""


class VirtioDevice(Device, frozen=True, kw_only=True):
    """What every virtio device may have (docs/formatdomain, 'Virtio-related options')."""

    iommu: Placed[bool | None, At("driver/@iommu", Form.ON_OFF)] = None
    ats: Placed[bool | None, At("driver/@ats", Form.ON_OFF)] = None
    packed: Placed[bool | None, At("driver/@packed", Form.ON_OFF)] = None
    page_per_vq: Placed[bool | None, At("driver/@page_per_vq", Form.ON_OFF)] = None
