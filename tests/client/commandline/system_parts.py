# SPDX-License-Identifier: LGPL-2.1-or-later
"""The parts of a command line that the machine around the devices gives."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from bpferry.commandline.context import Context, Folders
from bpferry.commandline.parts import Option, Part
from bpferry.commandline.system import build as system
from bpferry.domain.document import read_bytes
from bpferry.domain.model.accelerator import Accelerator
from bpferry.qemu.capabilities import CpuModel, MachineType
from bpferry.qemu.firmware import Descriptor
from tests.client.commandline.sound import sound
from tests.client.support import CAPABILITIES, OWNER

P = TypeVar("P")

X86_SWITCHES = dict.fromkeys(("acpi", "hmat", "hpet", "i8042", "smm", "usb", "vmport"), "bool")

QEMU = msgspec.structs.replace(
    CAPABILITIES,
    machines={
        "pc-i440fx-10.0": MachineType(
            name="pc-i440fx-10.0",
            alias="pc",
            is_default=True,
            cpu_max=255,
            default_cpu_type="qemu64-x86_64-cpu",
            default_ram_id="pc.ram",
        ),
        "pc-q35-10.0": MachineType(
            name="pc-q35-10.0",
            alias="q35",
            cpu_max=4096,
            default_cpu_type="qemu64-x86_64-cpu",
            default_ram_id="pc.ram",
        ),
        "microvm": MachineType(
            name="microvm",
            cpu_max=288,
            default_cpu_type="qemu64-x86_64-cpu",
            default_ram_id="microvm.ram",
        ),
    },
    machine_properties={
        "pc-i440fx": X86_SWITCHES,
        "pc-q35": X86_SWITCHES,
        "microvm": dict.fromkeys(("acpi", "usb"), "bool"),
    },
    cpu_models={name: CpuModel(name) for name in ("core2duo", "host", "max", "qemu64")},
    cpu_properties=dict.fromkeys(("cx16", "ds-cpl", "pclmulqdq", "sse4_2_odd", "svm"), "bool"),
    object_types={"memory-backend-ram": frozenset({"reserve"})},
)
"""As much of QEMU 10.0.2 as the tests need."""

FOLDERS = Folders(runtime="/run/user/7/bpferry/vm", state="/home/u/.local/state/bpferry/vm")

DOCUMENT = """\
<domain type='{kind}' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name>
  {memory}
  <os{firmware}><type arch='{arch}' machine='{machine}'>hvm</type>{os}</os>
  {top}
  <devices>{devices}</devices>
</domain>
"""

MEMORY = "<memory unit='MiB'>64</memory>"


def context_of(
    top: str = "",
    *,
    os: str = "",
    devices: str = "",
    memory: str = MEMORY,
    machine: str = "q35",
    accelerator: Accelerator = Accelerator.TCG,
    arch: str = "x86_64",
    name: str = "vm",
    firmware: str = "",
    descriptors: Sequence[Descriptor] = (),
) -> Context:
    """Return what the parts may know about a document with *top* beside its devices."""
    text = DOCUMENT.format(
        kind="kvm" if accelerator is Accelerator.KVM else "qemu",
        top=top,
        os=os,
        devices=devices,
        memory=memory,
        machine=machine,
        arch=arch,
        name=name,
        firmware=f" firmware='{firmware}'" if firmware else "",
    )
    return of_document(text, machine, accelerator, tuple(descriptors))


def of_document(
    text: str,
    machine_type: str,
    accelerator: Accelerator,
    descriptors: tuple[Descriptor, ...] = (),
) -> Context:
    """Return what the parts may know about the document *text*."""
    suffix = "xml" if text.startswith("<") else "toml"
    return Context(
        machine=read_bytes(text.encode(), Path(f"/vms/vm.{suffix}")).machine,
        capabilities=QEMU,
        accelerator=accelerator,
        plans={},
        owner=OWNER,
        folders=FOLDERS,
        fd=str,
        machine_type=machine_type,
        firmware=descriptors,
    )


def all_parts(context: Context) -> list[Part]:
    """Return everything around the devices."""
    return sound([*system.parts(context), *system.own_words(context)])


def values(context: Context, option: str) -> list[str | None]:
    """Return the values of *option*, such as ``-machine``."""
    return [
        part.value
        for part in all_parts(context)
        if isinstance(part, Option) and part.name == option
    ]


def words(context: Context, option: str) -> set[str]:
    """Return what is between the commas of *option*, which is there once."""
    (value,) = values(context, option)
    assert value is not None
    return set(value.split(","))


def of_kind(context: Context, kind: type[P]) -> list[P]:
    """Return the parts of one kind."""
    return [part for part in all_parts(context) if isinstance(part, kind)]
