# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices of the host that a VM gets: found beforehand, with nothing opened or changed."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from uuid import UUID

from bpferry.commandline.context import Context, HostNode
from bpferry.commandline.host_devices.scsi import NODE as VHOST_SCSI
from bpferry.commandline.host_devices.vfio import pci_address
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import named
from bpferry.errors import BpferryError
from bpferry.machine.host_files import HostFiles
from bpferry.machine.usb_devices import find_usb
from bpferry.machine.vfio_devices import find_mdev, find_pci

if TYPE_CHECKING:
    from bpferry.domain.model.host_devices import HostDevice, Which


def find_host_nodes(machine: Machine, files: HostFiles) -> "Mapping[Which, HostNode]":
    """Return what is known of each device of the host that *machine* gets.

    A description that does not say which one it means is refused elsewhere.
    """
    found = {device.which: _find(device, files) for device in machine.host_devices}
    return {which: node for which, node in found.items() if node is not None}


def _find(device: "HostDevice", files: HostFiles) -> HostNode | None:
    where = device.at
    if device.type == "scsi_host":
        return _find_vhost_scsi(files)
    if device.type == "mdev":
        return find_mdev(str(UUID(where.uuid)), files) if where and where.uuid else None
    if device.type == "pci":
        address = pci_address(where)
        managed = bool(device.managed)
        return find_pci(address, managed=managed, files=files) if address else None
    return find_usb(device, files)


def _find_vhost_scsi(files: HostFiles) -> HostNode:
    if files.may_use(VHOST_SCSI):
        return HostNode(VHOST_SCSI)
    owner = files.owner_of(VHOST_SCSI)
    if not owner:
        return HostNode(
            problem=f"'{VHOST_SCSI}' is not there",
            hint="ask the administrator to load the kernel's module (modprobe vhost_scsi)",
        )
    return HostNode(
        problem=f"you may not read and write '{VHOST_SCSI}' (it is {owner})",
        hint='ask the administrator to give it to a group of yours: KERNEL=="vhost-scsi", '
        'GROUP="kvm", MODE="0660" in /etc/udev/rules.d/70-bpferry.rules',
    )


def find_host_faults(context: Context) -> Iterator[BpferryError]:
    """Yield why the VM cannot get devices of the host now; each error's element is a key.

    An optional USB device is left out instead.
    """
    for device in named(context.machine.host_devices, "host-devices", "hostdev"):
        node = context.host_nodes.get(device.value.which, HostNode())
        optional = device.value.type == "usb" and device.value.startup_policy == "optional"
        if node.problem and not (node.is_absent and optional):
            element = f"{device.key}.{node.field}" if node.field else device.key
            yield BpferryError(node.problem, node.hint, element)
