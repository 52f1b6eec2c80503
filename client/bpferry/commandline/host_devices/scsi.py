# SPDX-License-Identifier: LGPL-2.1-or-later
"""SCSI targets that the host's kernel serves (vhost-scsi; hw/scsi/vhost-scsi.c of QEMU 10.0)."""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device, Found, OpenDevice, virtio_slot
from bpferry.commandline.system.boot import boot_indexes
from bpferry.domain.model.host_devices import HostDevice
from bpferry.domain.names import Named

NODE: Final = "/dev/vhost-scsi"


def scsi_parts(device: Named[HostDevice], context: Context) -> Iterator[Found]:
    """Yield the controller of a target. bpferry opens the node, as QEMU may not be allowed to."""
    wanted = device.value
    if wanted.wwpn is None:
        yield device.mistake(
            "wwpn",
            "a target is named by its WWPN, such as naa.5123456789abcde0",
            "write its WWPN in this form",
        )
    if wanted.model == "vfio-pci":
        yield device.refusal(
            "model", "a target of SCSI has a virtio model", "choose a virtio model, or leave it out"
        )
    name = f"{device.id}.vhost"
    yield OpenDevice(name, NODE, device.key)
    properties = {
        "wwpn": wanted.wwpn,
        "vhostfd": context.fd(name),
        "bootindex": boot_indexes(context.machine).get(device.key),
    }
    yield Device(
        context.virtio("vhost-scsi", wanted.model),
        device.id,
        device.key,
        properties,
        slot=virtio_slot(wanted.model),
        address=wanted.address,
    )
