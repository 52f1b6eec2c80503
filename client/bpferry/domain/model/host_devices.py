# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices of the host that the guest gets for itself."""

from typing import Annotated, Literal

import msgspec

from bpferry.domain.binding import At, Form, Placed, Table
from bpferry.domain.model.base import Device, Uuid

Byte = Annotated[int, msgspec.Meta(ge=0, le=0xFF)]
Word = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
UsbNumber = Annotated[int, msgspec.Meta(ge=1, le=999)]


class HostAddress(Table, frozen=True, kw_only=True):
    """Where the device is on the host. Which fields count depends on its type."""

    domain: Placed[Word | None, At("@domain", Form.HEX)] = None
    """For PCI, like slot and function."""
    bus: Placed[Annotated[int, msgspec.Meta(ge=0, le=999)] | None, At("@bus")] = None
    """For PCI or USB."""
    slot: Placed[Annotated[int, msgspec.Meta(ge=0, le=31)] | None, At("@slot")] = None
    function: Placed[Annotated[int, msgspec.Meta(ge=0, le=7)] | None, At("@function")] = None
    device: Placed[UsbNumber | None, At("@device")] = None
    """For USB; another one each time it is plugged in."""
    uuid: Placed[Uuid | None, At("@uuid")] = None
    """For a mediated device."""


class HostDevice(Device, frozen=True, kw_only=True):
    """One device of the host."""

    mode: Placed[Literal["subsystem"], At("@mode", always=True)] = "subsystem"
    type: Placed[Literal["usb", "pci", "mdev", "scsi_host"], At("@type", always=True)]
    managed: Placed[bool | None, At("@managed", Form.YES_NO)] = None
    """Whether libvirt would unbind a PCI device from its driver, and rebind it afterwards."""
    model: Placed[
        Literal["vfio-pci", "virtio", "virtio-transitional", "virtio-non-transitional", None],
        At("@model"),
    ] = None
    display: Placed[bool | None, At("@display", Form.ON_OFF)] = None
    """Whether a graphics device is shown by the VM's displays."""
    boot_display: Placed[bool | None, At("@ramfb", Form.ON_OFF)] = None
    """Whether it shows something before the guest has a driver (QEMU's ramfb)."""
    driver: Placed[Literal["vfio", None], At("driver/@name")] = None

    at: Placed[HostAddress | None, At("source/address")] = None
    vendor: Placed[Word | None, At("source/vendor/@id", Form.HEX)] = None
    """For a USB device that is found by what it is, like the product."""
    product: Placed[Word | None, At("source/product/@id", Form.HEX)] = None
    startup_policy: Placed[
        Literal["mandatory", "requisite", "optional", None], At("source/@startupPolicy")
    ] = None
    """Whether a USB device has to be there when the VM starts: only ``optional`` says no."""
    guest_reset: Placed[Literal["off", "uninitialized", "on", None], At("source/@guestReset")] = (
        None
    )
    """Whether the guest may reset a USB device."""

    protocol: Placed[Literal["vhost", None], At("source/@protocol")] = None
    """For a target that the kernel serves (scsi_host)."""
    wwpn: Placed[
        Annotated[
            str,
            msgspec.Meta(
                pattern=r"^naa\.[0-9a-fA-F]{16}$",
                description="the name of a target, such as naa.5123456789abcde0",
            ),
        ]
        | None,
        At("source/@wwpn"),
    ] = None
    """The address of the target."""

    boot_order: Placed[
        Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None, At("boot/@order")
    ] = None
    rom: Placed[bool | None, At("rom/@enabled", Form.YES_NO)] = None
    rom_bar: Placed[bool | None, At("rom/@bar", Form.ON_OFF)] = None
    rom_file: Placed[str | None, At("rom/@file", Form.FILE, blank=True)] = None
    teaming: Placed[Literal["transient", None], At("teaming/@type")] = None
    """Whether the guest uses it in place of a virtio card, as long as it is there."""
    stands_in_for: Placed[str | None, At("teaming/@persistent")] = None
    """The alias of that card."""

    @property
    def which(self) -> "Which":
        """Which device of the host it is, as the document has it."""
        return self.type, self.at, self.vendor, self.product

    @property
    def is_unassigned(self) -> bool:
        """Whether it is only kept from others, and the guest does not get it."""
        return self.address is not None and self.address.type == "unassigned"


Which = tuple[str, HostAddress | None, int | None, int | None]
"""Type, place, vendor and product."""
