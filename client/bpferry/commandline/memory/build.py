# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest's memory: how much, its NUMA nodes, and modules of it.

As in libvirt, sizes are rounded up to whole MiB, and those of modules to an even number of MiB.
"""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.context import Context, mistaken, unsupported
from bpferry.commandline.memory import numa
from bpferry.commandline.memory.backing import (
    RESTRICTIVE,
    Block,
    cells_of,
    folder_of,
    memory_object,
    pages_of,
)
from bpferry.commandline.memory.sizes import MIB, MODULE, round_up
from bpferry.commandline.numbers import parse_numbers
from bpferry.commandline.parts import Command, Folder, Found, Option, Remark, join, json_of
from bpferry.domain.model.machine import Machine
from bpferry.domain.model.memory import MemoryBacking
from bpferry.domain.names import named
from bpferry.errors import Unsupported

KIB: Final = 1024


def machine_properties(context: Context) -> dict[str, object]:
    """Return the properties of the machine that are about memory."""
    machine = context.machine
    backing = machine.memory_backing or MemoryBacking()
    nvdimm = any(module.model == "nvdimm" for module in machine.memory_devices)
    found: dict[str, object] = {
        "dump_guest_core": machine.memory_in_dumps,
        "mem_merge": False if backing.no_same_page_merging else None,
        "nvdimm": True if nvdimm else None,
    }
    found |= numa.machine_properties(context)
    if not machine.cpu.numa:
        found["memory_backend"] = _main_id(context) or None
    return found


def initial_size(machine: Machine) -> int:
    """Return the bytes that the guest has without its modules."""
    extra = sum(module.size for module in machine.memory_devices)
    if machine.cpu.numa:
        return _size_of_nodes(machine)
    if machine.memory == 0:
        raise mistaken("memory", "the VM has no memory", "set its size")
    if extra >= machine.memory:
        raise mistaken(
            "memory",
            f"the VM has {machine.memory // MIB} MiB in all, and its modules alone have "
            f"{extra // MIB} MiB: there is nothing left to start with",
            "write a larger size, which has the modules in it, or make the modules smaller",
        )
    return round_up(machine.memory - extra, MIB)


def _size_of_nodes(machine: Machine) -> int:
    """Return the bytes of all nodes, each rounded up.

    libvirt does not round for a guest that it takes over from another host. Nodes that need it and
    do not add up to the VM's memory may describe such a guest, so they are refused.
    """
    exact = sum(cell.memory for cell in machine.cpu.numa)
    rounded = sum(round_up(cell.memory, MIB) for cell in machine.cpu.numa)
    if exact != rounded and machine.memory not in (0, _total(machine)):
        raise unsupported(
            "memory",
            f"the NUMA nodes have {exact // 1024:,} KiB, which is neither this nor a whole number "
            "of MiB",
            "write the sum of the nodes here, or make each node a whole number of MiB",
        )
    return rounded


def parts(context: Context) -> Iterator[Found]:
    """Yield the guest's memory and its nodes."""
    machine = context.machine
    yield from _check_nodes(machine)
    yield from _tuning_remarks(machine)
    yield from _sum_remark(machine)
    yield Option("-m", _size(context))
    backing = machine.memory_backing or MemoryBacking()
    if backing.source == "file":
        yield Folder(folder_of(context), "memory-backing.source")
    yield Option("-overcommit", join("", mem_lock=backing.locked))
    if machine.cpu.numa:
        yield from numa.parts(context)
    elif _main_id(context):
        block = Block(_main_id(context), "memory", initial_size(machine))
        yield Option("-object", json_of(_with_old_name(context, memory_object(context, block))))
    elif machine.memory_backing or machine.numa_tune:
        yield unsupported(
            "memory-backing" if machine.memory_backing else "numa-tune",
            f"'{context.machine_type}' cannot use another memory backend",
            "leave it out, or choose another machine type, such as 'q35'",
        )
    if machine.memory_devices:
        from bpferry.commandline.memory import modules  # noqa: PLC0415 - few VMs have any

        yield from modules.parts(context)
    yield from _balloon(context)


def _main_id(context: Context) -> str:
    found = context.capabilities.find_machine(context.machine_type)
    return found.default_ram_id if found else ""


def _with_old_name(context: Context, memory: dict[str, object]) -> dict[str, object]:
    """Return *memory* with the name that it has always had in migration streams."""
    name = "x-use-canonical-path-for-ramblock-id"
    kind = str(memory["qom-type"])
    if kind != "memory-backend-ram" and context.capabilities.has_property(kind, name):
        return {**memory, name: False}
    return memory


def _check_nodes(machine: Machine) -> Iterator[Unsupported]:
    """Refuse settings for nodes that the guest does not have."""
    count = len(machine.cpu.numa)
    huge = machine.memory_backing.huge_pages if machine.memory_backing else None
    for page in pages_of(huge):
        nodes = page.value.nodes
        if nodes is not None and parse_numbers(nodes, f"{page.key}.nodes")[-1] >= count:
            yield page.mistake(
                "nodes", f"the guest has {count} NUMA nodes", f"write nodes from 0 to {count - 1}"
            )
    for cell in cells_of(machine.numa_tune):
        if cell.value.cell >= count:
            yield cell.mistake(
                "cell", f"the guest has {count} NUMA nodes", f"write a node from 0 to {count - 1}"
            )


def _tuning_remarks(machine: Machine) -> Iterator[Found]:
    """Yield what the user is told of settings that are left to the kernel."""
    tune = machine.numa_tune
    if tune is None:
        return
    if tune.placement == "auto":
        text = "the kernel chooses the nodes of the VM's memory; libvirt would ask numad"
        yield Remark(text, "name the nodes", "numa-tune.placement")
    for cell in cells_of(tune):
        if (cell.value.mode == RESTRICTIVE) is not (tune.mode == RESTRICTIVE):
            yield cell.refusal(
                "mode",
                f"'{RESTRICTIVE}' is the policy of all nodes or of none",
                "write it for all nodes, or for none",
            )
    if tune.mode == RESTRICTIVE:
        text = (
            f"it has no effect: '{RESTRICTIVE}' needs a control group, which libvirt's session "
            "mode does not have either"
        )
        yield Remark(text, "use 'strict', which QEMU itself applies", "numa-tune.mode")


def _sum_remark(machine: Machine) -> Iterator[Remark]:
    """Yield what the user is told if NUMA nodes and <memory> disagree; as in libvirt, nodes win."""
    said, total = round_up(machine.memory, MIB) // MIB, -(-_total(machine) // MIB)
    if said and machine.cpu.numa and said != total:
        text = f"the VM gets {total} MiB, the sum of its NUMA nodes and modules, and not {said} MiB"
        yield Remark(text, f"write {total} MiB here", "memory")


def _size(context: Context) -> str:
    machine = context.machine
    initial = initial_size(machine)
    most = machine.max_memory
    if most is None:
        for module in named(machine.memory_devices, "memory-devices", "memory"):
            if module.value.model in ("dimm", "nvdimm"):
                raise module.mistake(
                    "", "memory modules need room to be plugged into", "add max-memory with slots"
                )
        return join("", size=f"{initial // 1024}k")
    whole = initial + sum(round_up(module.size, MODULE) for module in machine.memory_devices)
    if most.size < whole:
        raise mistaken(
            "max-memory.size",
            "it is less than the memory at the start",
            "write more than the memory at the start",
        )
    return join(
        "",
        size=f"{initial // 1024}k",
        slots=most.slots or None,
        maxmem=f"{round_up(most.size, MIB) // 1024}k",
    )


def _total(machine: Machine) -> int:
    """Return the bytes of memory that the document asks for, before rounding up."""
    if not machine.cpu.numa:
        return machine.memory
    extra = sum(module.size for module in machine.memory_devices)
    return extra + sum(cell.memory for cell in machine.cpu.numa)


def _balloon(context: Context) -> Iterator[Remark | Command]:
    """Yield the command by which the guest gives up the memory that it should not start with."""
    machine = context.machine
    wanted = machine.current_memory
    if wanted is None or wanted == _total(machine):
        return
    if wanted > _total(machine):
        whole = _total(machine) // KIB
        text = f"it is more than the memory of the VM, and the guest gets that: {whole} KiB"
        yield Remark(text, "write a smaller size, or leave it out", "current-memory")
        return
    if machine.balloon is not None and machine.balloon.model == "none":
        text = "the guest keeps all of its memory: only a balloon could take some back"
        yield Remark(text, "give it a balloon", "current-memory")
        return
    yield Command("balloon", {"value": wanted}, "current-memory")
