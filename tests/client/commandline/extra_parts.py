# SPDX-License-Identifier: LGPL-2.1-or-later
"""The parts of a command line that the smaller devices of a small document give."""

from pathlib import Path

import msgspec

from bpferry.commandline.context import Context, Folders
from bpferry.commandline.extras import build as extras
from bpferry.commandline.parts import Option, Part
from bpferry.commandline.system import iommu
from bpferry.domain.document import read_bytes
from bpferry.domain.model.accelerator import Accelerator
from tests.client.commandline.character_parts import devices_in, values
from tests.client.commandline.sound import sound
from tests.client.support import CAPABILITIES, OWNER

FOLDERS = Folders(runtime="/run/user/7/bpferry/vm", state="/home/u/.local/state/bpferry/vm")

DOCUMENT = """\
<domain type='qemu'>
  <name>vm</name>
  <memory unit='MiB'>64</memory>
  <os><type>hvm</type></os>
  {top}
  <devices>{devices}</devices>
</domain>
"""

SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
ACPI = "<features><acpi/></features>"

INTEL_IOMMU = {"intel-iommu": {"dma-translation": "bool"}}


def parts_of(
    devices: str,
    machine_type: str = "q35",
    top: str = "",
    *,
    newest: bool = True,
) -> list[Part]:
    """Return what a document with *devices* gives, each fd under its name."""
    raw = DOCUMENT.format(devices=devices, top=top).encode()
    known = msgspec.structs.replace(CAPABILITIES, devices=INTEL_IOMMU if newest else {})
    context = Context(
        machine=read_bytes(raw, Path("/vms/vm.xml")).machine,
        capabilities=known,
        accelerator=Accelerator.TCG,
        plans={},
        owner=OWNER,
        folders=FOLDERS,
        fd=str,
        machine_type=machine_type,
    )
    return sound([*iommu.parts(context), *extras.parts(context)])


def options(parts: list[Part]) -> list[tuple[str, str | None]]:
    """Return all options but devices, with their values."""
    return [(part.name, part.value) for part in parts if isinstance(part, Option)]


__all__ = ["ACPI", "FOLDERS", "SHARED", "devices_in", "options", "parts_of", "values"]
