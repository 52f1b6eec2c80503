# SPDX-License-Identifier: LGPL-2.1-or-later
"""The parts of a command line that the character devices of a small document give."""

from pathlib import Path

import msgspec

from bpferry.commandline.characters import build as characters
from bpferry.commandline.context import Context, Folders
from bpferry.commandline.parts import Device, Option, Part
from bpferry.domain.document import read_bytes
from bpferry.domain.model.accelerator import Accelerator
from tests.client.commandline.sound import sound
from tests.client.support import CAPABILITIES, OWNER

FOLDERS = Folders(runtime="/run/user/7/bpferry/vm", state="/home/u/.local/state/bpferry/vm")

DOCUMENT = """\
<domain type='qemu'>
  <name>vm</name>
  <memory unit='MiB'>64</memory>
  <os><type>hvm</type></os>
  <devices>{devices}</devices>
</domain>
"""


def parts_of(
    devices: str,
    machine_type: str = "q35",
    version: tuple[int, int, int] = (10, 0, 2),
    folders: Folders = FOLDERS,
) -> list[Part]:
    """Return what a document with *devices* gives, each fd under its name."""
    raw = DOCUMENT.format(devices=devices).encode()
    context = Context(
        machine=read_bytes(raw, Path("/vms/vm.xml")).machine,
        capabilities=msgspec.structs.replace(CAPABILITIES, version=version),
        accelerator=Accelerator.TCG,
        plans={},
        owner=OWNER,
        folders=folders,
        fd=str,
        machine_type=machine_type,
    )
    return sound(characters.parts(context))


def values(parts: list[Part], option: str) -> list[str | None]:
    """Return the values of *option*, such as ``-chardev``."""
    return [part.value for part in parts if isinstance(part, Option) and part.name == option]


def devices_in(parts: list[Part]) -> list[tuple[str, str, dict[str, object]]]:
    """Return driver, id and properties of each device, without what is None."""
    return [
        (
            part.driver,
            part.id,
            {key: value for key, value in part.properties.items() if value is not None},
        )
        for part in parts
        if isinstance(part, Device)
    ]
