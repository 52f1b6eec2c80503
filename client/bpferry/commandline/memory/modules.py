# SPDX-License-Identifier: LGPL-2.1-or-later
"""Modules of memory: DIMMs, NVDIMMs, and memory that comes and goes by virtio."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final
from uuid import UUID

from bpferry.commandline.applicable import check_address, refuse_others
from bpferry.commandline.attempt import attempt
from bpferry.commandline.context import Context, virtio_properties
from bpferry.commandline.memory.backing import Block, is_preallocated, memory_object
from bpferry.commandline.memory.sizes import MODULE, round_up
from bpferry.commandline.parts import Device, Found, Option, Part, Remark, Slot, json_of
from bpferry.domain.forms import either
from bpferry.domain.names import Named, named
from bpferry.errors import Unsupported

if TYPE_CHECKING:
    from bpferry.domain.model.memory import MemoryDevice

ALL: Final = frozenset({"model", "alias", "address", "access", "size"})
ANONYMOUS: Final = frozenset({"discard", "node", "page_size", "host_nodes"})
VIRTIO: Final = frozenset({"guest_address", "iommu", "ats", "packed", "page_per_vq"})
NVDIMM: Final = frozenset(
    {"node", "uuid", "label_size", "read_only", "file", "alignment", "persistent"}
)

MEANINGFUL: Final = {
    "dimm": ALL | ANONYMOUS,
    "nvdimm": ALL | NVDIMM,
    "virtio-mem": ALL | ANONYMOUS | VIRTIO | {"requested", "block", "dynamic_slots"},
    "virtio-pmem": ALL | VIRTIO | {"file"},
}
"""The fields that each kind of module can have."""

FILES: Final = ("nvdimm", "virtio-pmem")
"""Modules that are files."""


def parts(context: Context) -> Iterator[Part]:
    """Yield all modules, each after the object behind it."""
    modules = context.machine.memory_devices
    if not context.machine.features.acpi and any(not _is_virtio(module) for module in modules):
        text = "QEMU refuses to start with DIMMs and NVDIMMs on a machine without ACPI"
        first = next(named(modules, "memory-devices", "memory"))
        yield Remark(
            text, "add " + either("acpi = true to [features]", "<acpi/> to <features>"), first.key
        )
    for device in named(modules, "memory-devices", "memory"):
        yield from attempt(_module, device, context)


def _module(device: "Named[MemoryDevice]", context: Context) -> Iterator[Found]:
    yield from _check(device)
    block = _block(device)
    yield Option("-object", json_of(_object(context, device.value, block)))
    yield _device(context, device, block)


def _is_virtio(module: "MemoryDevice") -> bool:
    return module.model.startswith("virtio")


def _check(device: "Named[MemoryDevice]") -> Iterator[Unsupported]:
    module = device.value
    yield from refuse_others(device, MEANINGFUL[module.model], f"a module '{module.model}'")
    yield from check_address(device, "pci" if _is_virtio(module) else "dimm")
    if module.model in FILES and module.file is None:
        yield device.mistake("file", f"'{module.model}' needs a file", "name the file")


def _block(device: "Named[MemoryDevice]") -> Block:
    module = device.value
    access = module.access
    if module.model == "virtio-pmem" and access is None:
        access = "shared"
    return Block(
        id=f"mem{device.id}",
        key=device.key,
        size=round_up(module.size, MODULE),
        node=module.node,
        access=access,
        page_size=module.page_size,
        host_nodes=module.host_nodes,
        file=module.file,
        discard=module.discard,
        preallocate=_preallocates(module),
    )


def _preallocates(module: "MemoryDevice") -> bool | None:
    """Say whether the object itself is allocated at the start; None to use the VM's setting.

    Persistent memory needs no allocation. A file is allocated, so that a full file system shows at
    once. Memory that comes and goes is allocated by its device.
    """
    if module.model == "nvdimm":
        return not module.persistent
    return None if module.model == "dimm" else False


def _object(context: Context, module: "MemoryDevice", block: Block) -> dict[str, object]:
    found = memory_object(context, block)
    found["align"] = module.alignment
    found["pmem"] = module.persistent or None
    if module.model == "virtio-mem" and context.capabilities.has_property(
        str(found["qom-type"]), "reserve"
    ):
        found["reserve"] = False
    return found


def _device(context: Context, device: "Named[MemoryDevice]", block: Block) -> Device:
    module = device.value
    common: dict[str, object] = {"memdev": block.id, "node": module.node}
    if not _is_virtio(module):
        driver = "pc-dimm" if module.model == "dimm" else "nvdimm"
        return Device(driver, device.id, device.key, {**common, **_dimm_properties(module)})
    return Device(
        context.virtio(module.model),
        device.id,
        device.key,
        {**common, **_virtio_properties(context, module, block)},
        slot=Slot.EXPRESS,
        address=module.address,
    )


def _dimm_properties(module: "MemoryDevice") -> dict[str, object]:
    where = module.address
    return {
        "slot": where.slot if where else None,
        "addr": where.base if where else None,
        "label-size": module.label_size,
        "uuid": str(UUID(module.uuid)) if module.uuid else None,
        "unarmed": module.read_only or None,
    }


def _virtio_properties(context: Context, module: "MemoryDevice", block: Block) -> dict[str, object]:
    usual = Block(block.id, block.key, block.size, module.node, page_size=module.page_size)
    allocates = module.model == "virtio-mem" and is_preallocated(context, usual)
    return {
        "memaddr": module.guest_address,
        "requested-size": module.requested,
        "block-size": module.block,
        "dynamic-memslots": module.dynamic_slots,
        "prealloc": True if allocates else None,
        **virtio_properties(module),
    }
