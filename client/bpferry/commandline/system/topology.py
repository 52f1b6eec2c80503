# SPDX-License-Identifier: LGPL-2.1-or-later
"""How many processors there are, and how they are arranged (-smp)."""

from collections.abc import Iterator

from bpferry.commandline.context import Context, unsupported
from bpferry.commandline.parts import Found, Option, join
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import listed
from bpferry.errors import Unsupported


def parts(context: Context) -> Iterator[Found]:
    """Yield the number and the arrangement of processors."""
    machine = context.machine
    yield from _check_number(context)
    yield from _check_topology(context)
    yield from _check_list(machine)
    start = _vcpus_at_start(machine)
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
        yield unsupported("vcpus", f"'{context.machine_type}' takes at most {found.cpu_max}")
    if _vcpus_at_start(machine) > machine.vcpus:
        yield unsupported("vcpus-at-start", f"the VM has {machine.vcpus} vCPUs")


def _check_topology(context: Context) -> Iterator[Unsupported]:
    machine, cpu = context.machine, context.machine.cpu
    if not _is_arranged(machine):
        if cpu.dies > 1 or cpu.clusters > 1:
            yield unsupported("cpu.sockets", "dies and clusters need sockets, cores and threads")
        return
    if cpu.sockets is None or cpu.cores is None or cpu.threads is None:
        raise unsupported("cpu.sockets", "sockets, cores and threads go together")
    product = cpu.sockets * cpu.dies * cpu.clusters * cpu.cores * cpu.threads
    if product != machine.vcpus:
        yield unsupported(
            "vcpus", f"the VM has {machine.vcpus} vCPUs, and the topology has {product}",
            "make sockets x dies x clusters x cores x threads that number",
        )  # fmt: skip
    if cpu.dies > 1 and context.family not in ("pc", "q35"):
        yield unsupported("cpu.dies", f"'{context.machine_type}' has one die in each socket")
    if cpu.clusters > 1 and context.family != "virt":
        yield unsupported("cpu.clusters", f"'{context.machine_type}' has no clusters of cores")


def _check_list(machine: Machine) -> Iterator[Unsupported]:
    """Yield what is refused of a list of more than so many processors from the first on."""
    start = _vcpus_at_start(machine)
    for part in listed(machine.vcpu_list, "vcpu-list"):
        vcpu = part.value
        if vcpu.enabled is not (vcpu.id < start):
            yield part.refusal(
                "enabled", f"the first {start} vCPUs are enabled at the start",
                "enable the first ones, as many as 'current' says",
            )  # fmt: skip
        if vcpu.enabled and vcpu.hotpluggable:
            yield part.refusal(
                "hotpluggable", "vCPUs that are there at the start cannot be removed"
            )
