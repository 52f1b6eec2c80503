# SPDX-License-Identifier: LGPL-2.1-or-later
"""USB devices of the host: which one a description means, and whether this user may have it."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from bpferry.commandline.context import HostNode
from bpferry.domain.forms import either
from bpferry.domain.model.host_devices import HostAddress
from bpferry.machine.host_files import HostFiles

if TYPE_CHECKING:
    from bpferry.domain.model.host_devices import HostDevice

DEVICES: Final = "/sys/bus/usb/devices"

RULES: Final = "/etc/udev/rules.d/70-bpferry.rules"
"""It has to come before 73-seat-late.rules, which evaluates the tag ``uaccess``."""

OPTIONAL: Final = either('startup-policy = "optional"', "startupPolicy='optional'")


class UsbDevice(Struct, frozen=True):
    """A device that the kernel has found."""

    vendor: int
    product: int
    bus: int
    number: int
    name: str
    """The name that it reports; may be empty."""

    @property
    def node(self) -> str:
        """The file through which programs use it."""
        return f"/dev/bus/usb/{self.bus:03d}/{self.number:03d}"

    @property
    def ids(self) -> str:
        """Vendor and product, as ``lsusb`` shows them."""
        return f"{self.vendor:04x}:{self.product:04x}"

    def __str__(self) -> str:
        return f"{self.ids} {self.name}".strip()


def find_usb(wanted: "HostDevice", files: HostFiles) -> HostNode:
    """Return what is known of the device that *wanted* means."""
    place = wanted.at or HostAddress()
    found = [device for device in list_usb(files) if _fits(device, wanted, place)]
    if len(found) > 1:
        listed = ", ".join(f"bus {one.bus} device {one.number}" for one in found)
        return HostNode(
            problem=f"the host has {len(found)} devices {found[0].ids}: {listed}",
            hint=f"say which: {_place(found[0])}",
        )
    if found:
        return _node(found[0], files)
    return HostNode(
        problem=f"the host has no USB device {_described(wanted, place)}",
        hint=f"plug it in ('lsusb' lists what there is), or write {OPTIONAL} if the guest can do "
        "without it",
        is_absent=True,
    )


def _place(device: UsbDevice) -> str:
    return either(
        f"at = {{ bus = {device.bus}, device = {device.number} }}",
        f"<address bus='{device.bus}' device='{device.number}'/> in <source>",
    )


def list_usb(files: HostFiles) -> Iterator[UsbDevice]:
    """Yield all USB devices of the host. Names with a colon are interfaces of devices."""
    for name in files.names(DEVICES):
        folder = f"{DEVICES}/{name}"
        try:
            yield UsbDevice(
                vendor=int(files.text(f"{folder}/idVendor"), 16),
                product=int(files.text(f"{folder}/idProduct"), 16),
                bus=int(files.text(f"{folder}/busnum")),
                number=int(files.text(f"{folder}/devnum")),
                name=" ".join(
                    filter(
                        None, (files.text(f"{folder}/{one}") for one in ("manufacturer", "product"))
                    )
                ),
            )
        except ValueError:
            continue


def _fits(device: UsbDevice, wanted: "HostDevice", place: HostAddress) -> bool:
    pairs = (
        (wanted.vendor, device.vendor),
        (wanted.product, device.product),
        (place.bus, device.bus),
        (place.device, device.number),
    )
    return all(asked in (None, has) for asked, has in pairs)


def _described(wanted: "HostDevice", place: HostAddress) -> str:
    words = []
    if wanted.vendor is not None and wanted.product is not None:
        words.append(f"{wanted.vendor:04x}:{wanted.product:04x}")
    if place.bus is not None:
        words.append(f"at bus {place.bus} device {place.device}")
    return " ".join(words)


def _node(device: UsbDevice, files: HostFiles) -> HostNode:
    if files.may_use(device.node):
        return HostNode(str(files.path(device.node)))
    owner = files.owner_of(device.node)
    if not owner:
        return HostNode(
            problem=f"'{device.node}', the node of the USB device {device}, does not exist",
            hint="in a container, it has to be passed in",
        )
    match = f'ATTR{{idVendor}}=="{device.vendor:04x}", ATTR{{idProduct}}=="{device.product:04x}"'
    return HostNode(
        str(files.path(device.node)),
        problem=f"you may not read and write '{device.node}', the USB device {device} "
        f"(it is {owner})",
        hint=f"ask the administrator to write into {RULES}: "
        f'SUBSYSTEM=="usb", {match}, TAG+="uaccess" for who sits at this host, or '
        f'GROUP="{_own_group()}", MODE="0660"; then udevadm control --reload, and plug it in again',
    )


def _own_group() -> str:
    import grp  # noqa: PLC0415

    try:
        return grp.getgrgid(os.getegid()).gr_name
    except KeyError:
        return str(os.getegid())
