# SPDX-License-Identifier: LGPL-2.1-or-later
"""The parts of a command line that the disks and controllers of a small document give."""

import json
from pathlib import Path
from typing import cast

import msgspec

from bpferry.commandline.buses import controllers
from bpferry.commandline.context import Context, Folders
from bpferry.commandline.parts import Device, Option, Part
from bpferry.commandline.storage import build as disks
from bpferry.domain.document import read_bytes
from bpferry.domain.model.accelerator import Accelerator
from bpferry.domain.model.machine import Machine
from bpferry.qemu.capabilities import Capabilities
from tests.client.commandline.sound import completed, sound
from tests.client.support import CAPABILITIES, OWNER

DOCUMENT = """\
<domain type='qemu'>
  <name>vm</name>
  <memory unit='MiB'>64</memory>
  <os><type>hvm</type></os>
  {top}
  <devices>{devices}</devices>
</domain>
"""

NATIVE = """\
name = "vm"
memory = "64 MiB"
"""

DRIVERS = ("lsi53c895a", "piix3-usb-uhci", "virtio-scsi-pci")

QEMU = msgspec.structs.replace(
    CAPABILITIES,
    devices={**CAPABILITIES.devices, **{driver: {} for driver in DRIVERS}}
    | {"virtio-scsi-pci": {"iothread-vq-mapping": "list"}},
)
"""One with the devices that a choice depends on."""


def read(devices: str, top: str = "") -> Machine:
    """Return the machine of a document with *devices*, in XML or in the native form."""
    if not devices.lstrip().startswith("<"):
        return read_bytes((NATIVE + devices).encode(), Path("/vms/vm.toml")).machine
    raw = DOCUMENT.format(devices=devices, top=top).encode()
    return read_bytes(raw, Path("/vms/vm.xml")).machine


def parts_of(
    devices: str, machine_type: str = "q35", top: str = "", capabilities: Capabilities = QEMU
) -> list[Part]:
    """Return what the controllers and disks of a document give, with what they bring along."""
    bare = Context(
        machine=read(devices, top),
        capabilities=capabilities,
        accelerator=Accelerator.TCG,
        plans={},
        owner=OWNER,
        folders=Folders(runtime="/run/vm", state="/state/vm"),
        fd=str,
        machine_type=machine_type,
    )
    context = completed(bare)
    return sound([*controllers.parts(context), *disks.parts(context)])


def nodes(parts: list[Part]) -> list[dict[str, object]]:
    """Return the block nodes."""
    return [
        cast("dict[str, object]", json.loads(part.value or ""))
        for part in parts
        if isinstance(part, Option) and part.name == "-blockdev"
    ]


def device(parts: list[Part], device_id: str) -> Device:
    """Return the device *device_id*."""
    return next(part for part in parts if isinstance(part, Device) and part.id == device_id)


def properties(parts: list[Part], device_id: str) -> dict[str, object]:
    """Return the properties of the device *device_id*, without what is None."""
    found = device(parts, device_id).properties
    return {name: value for name, value in found.items() if value is not None}
