# SPDX-License-Identifier: LGPL-2.1-or-later
"""How many processors there are, and how they are arranged (-smp)."""

from collections.abc import Iterator

from bpferry.commandline.context import Context, mistaken, unsupported
from bpferry.commandline.parts import Found, Option, PlugIn, join
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import listed
from bpferry.errors import Unsupported


def parts(context: Context) -> Iterator[Found]:
    """Yield the number and the arrangement of processors."""
    machine = context.machine
    yield from _check_number(context)
    yield from _check_topology(context)
    yield from _check_list(context)
    plugged = plugged_in(machine)
    start = _vcpus_at_start(machine) - len(plugged)
    if plugged:
        yield PlugIn(plugged, "vcpu-list")
    yield Option("-smp", join("", cpus=start, **_arrangement(machine, start)))


def _vcpus_at_start(machine: Machine) -> int:
    return machine.vcpus_at_start or machine.vcpus


def _is_arranged(machine: Machine) -> bool:
    cpu = machine.cpu
    return not (cpu.sockets is None and cpu.cores is None and cpu.threads is None)


def _arrangement(machine: Machine, start: int) -> dict[str, object]:
    cpu = machine.cpu
    most = None if start == machine.vcpus else machine.vcpus
    if not _is_arranged(machine):
        return {"maxcpus": most, "sockets": machine.vcpus, "cores": 1, "threads": 1}
    return {
        "maxcpus": most,
        "sockets": cpu.sockets,
        "dies": cpu.dies if cpu.dies > 1 else None,
        "clusters": cpu.clusters if cpu.clusters > 1 else None,
        "cores": cpu.cores,
        "threads": cpu.threads,
    }


def _check_number(context: Context) -> Iterator[Unsupported]:
    machine = context.machine
    found = context.capabilities.find_machine(context.machine_type)
    if found and machine.vcpus > found.cpu_max:
        yield unsupported(
            "vcpus",
            f"'{context.machine_type}' takes at most {found.cpu_max}",
            f"write at most {found.cpu_max}, or choose another machine type",
        )
    if _vcpus_at_start(machine) > machine.vcpus:
        yield mistaken(
            "vcpus-at-start", f"the VM has {machine.vcpus} vCPUs", f"write at most {machine.vcpus}"
        )


def _check_topology(context: Context) -> Iterator[Unsupported]:
    machine, cpu = context.machine, context.machine.cpu
    if not _is_arranged(machine):
        if cpu.dies > 1 or cpu.clusters > 1:
            yield mistaken(
                "cpu.sockets",
                "dies and clusters need sockets, cores and threads",
                "name all three too",
            )
        return
    if cpu.sockets is None or cpu.cores is None or cpu.threads is None:
        raise mistaken(
            "cpu.sockets", "sockets, cores and threads go together", "name all three, or none"
        )
    product = cpu.sockets * cpu.dies * cpu.clusters * cpu.cores * cpu.threads
    if product != machine.vcpus:
        yield mistaken(
            "vcpus", f"the VM has {machine.vcpus} vCPUs, and the topology has {product}",
            "make sockets x dies x clusters x cores x threads that number",
        )  # fmt: skip
    if cpu.dies > 1 and context.family not in ("pc", "q35"):
        yield unsupported(
            "cpu.dies",
            f"'{context.machine_type}' has one die in each socket",
            "write 1 die, or leave it out",
        )
    if cpu.clusters > 1 and context.family != "virt":
        yield unsupported(
            "cpu.clusters",
            f"'{context.machine_type}' has no clusters of cores",
            "write 1 cluster, or leave it out",
        )


def _check_list(context: Context) -> Iterator[Unsupported]:
    """Refuse lists of single processors that libvirt refuses."""
    machine = context.machine
    seen: set[int] = set()
    orders: set[int] = set()
    for part in listed(machine.vcpu_list, "vcpu-list"):
        vcpu = part.value
        if vcpu.id in seen or vcpu.id >= machine.vcpus:
            yield part.mistake(
                "id",
                f"the vCPUs are 0 to {machine.vcpus - 1}, each once",
                f"write each number from 0 to {machine.vcpus - 1} once",
            )
        if vcpu.id == 0 and (not vcpu.enabled or vcpu.hotpluggable):
            yield part.mistake(
                "",
                "vCPU 0 is always enabled and cannot be removed",
                "enable it, and do not let it be hotpluggable",
            )
        if not vcpu.enabled and vcpu.hotpluggable is False:
            yield part.mistake(
                "hotpluggable",
                "a disabled vCPU has to be hotpluggable",
                "make it hotpluggable, or enable it",
            )
        if vcpu.order and vcpu.enabled and vcpu.order in orders:
            yield part.mistake(
                "order",
                f"another vCPU has place {vcpu.order} as well",
                "give each vCPU an order of its own",
            )
        seen.add(vcpu.id)
        orders.add(vcpu.order or 0)
    if machine.vcpu_list and len(enabled_vcpus(machine)) != _vcpus_at_start(machine):
        yield mistaken(
            "vcpus-at-start", f"{len(enabled_vcpus(machine))} of the vCPUs listed are enabled",
            "make both numbers the same",
        )  # fmt: skip
    yield from _check_plugged_in(context)


def _check_plugged_in(context: Context) -> Iterator[Unsupported]:
    """Refuse processors that cannot be added to those of the start."""
    machine = context.machine
    plugged = plugged_in(machine)
    fixed = sorted(set(enabled_vcpus(machine)) - set(plugged))
    if plugged and context.family not in ("pc", "q35"):
        yield unsupported(
            "vcpu-list", f"'{context.machine_type}' cannot hot-plug vCPUs", "leave the list out"
        )
    if machine.vcpu_list and fixed != list(range(len(fixed))):
        yield unsupported(
            "vcpu-list", "vCPUs that are not hotpluggable have to come first",
            "make those after a gap hotpluggable",
        )  # fmt: skip


def enabled_vcpus(machine: Machine) -> tuple[int, ...]:
    """Return the numbers of the processors that the guest starts with."""
    if not machine.vcpu_list:
        return tuple(range(_vcpus_at_start(machine)))
    return tuple(vcpu.id for vcpu in machine.vcpu_list if vcpu.enabled)


def plugged_in(machine: Machine) -> tuple[int, ...]:
    """Return the processors that are plugged in before the guest runs, in their order."""
    found = [vcpu for vcpu in machine.vcpu_list if vcpu.enabled and vcpu.hotpluggable]
    return tuple(vcpu.id for vcpu in sorted(found, key=lambda vcpu: vcpu.order or 0))
