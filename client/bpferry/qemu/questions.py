# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a QEMU is asked, and how its answers become its capabilities.

There are two rounds. All questions of a round are sent at once, so that QEMU never waits for us.
The second round asks about what the first one named:

    first    version, target, schema, machine types, processors, lists of QOM types
    second   properties of each device, of some families of machine types and of a processor;
             the eBPF objects; options and back ends of chardevs, of which some come with modules,
             and all modules were loaded for the lists of QOM types

Processors are devices too. QEMU has 154 of them with 500 properties each, which took twice as long
to list as all the rest (10.0.2), so only the one with the most is asked about. All other devices
are asked about: QEMU's own tests do the same (tests/qtest/device-introspect-test.c). QEMU aborts if
the module is missing that a device is made of, so such devices count as missing (``_whole``).
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from bpferry.qemu.asker import Asker, Named, Option, Target, Version
from bpferry.qemu.capabilities import Capabilities, CpuModel, EbpfObject, MachineType
from bpferry.qemu.monitor import Monitor
from bpferry.qemu.schema import Entity, Schema

FULLEST_CPU: Final = "max"

ACCEL: Final = "-accel"


@dataclass(frozen=True, slots=True)
class _Tables:
    """What the first round tells, besides QOM types."""

    schema: Schema
    machines: dict[str, MachineType]
    cpus: dict[str, CpuModel]


@dataclass(frozen=True, slots=True)
class _Types:
    """QOM types that can be instantiated."""

    devices: frozenset[str]
    cpus: frozenset[str]
    objects: frozenset[str]
    accelerators: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Rest:
    """What only the second round can tell, besides properties."""

    objects: dict[str, EbpfObject]
    options: dict[str, frozenset[str]]
    chardevs: frozenset[str]


async def ask(qemu: str, monitor: Monitor) -> Capabilities:
    """Return what *qemu*, at the other end of *monitor*, can do.

    Raises:
        QemuError: it ended, or gave an invalid answer.
    """
    asker = Asker(qemu, monitor)
    version, target, tables, types = await asyncio.gather(
        asker.answer(Version, "query-version"),
        asker.answer(Target, "query-target"),
        _ask_tables(asker),
        _ask_types(asker),
    )
    schema = tables.schema
    fullest = tables.cpus.get(FULLEST_CPU)
    devices, machine_properties, cpu_properties, rest = await asyncio.gather(
        asker.device_properties(_whole(types.devices - types.cpus)),
        asker.machine_properties(tables.machines.values()),
        asker.device_properties([fullest.typename] if fullest else []),
        _ask_rest(asker, schema),
    )
    return Capabilities(
        qemu=qemu,
        version=version.triple(),
        package=version.package,
        arch=target.arch,
        objects=rest.objects,
        devices=devices,
        object_types=_only(schema.argument_branches("object-add"), types.objects),
        machines=tables.machines,
        machine_properties=machine_properties,
        cpu_models=tables.cpus,
        cpu_properties=next(iter(cpu_properties.values()), {}),
        accelerators=frozenset(
            name.removesuffix(ACCEL) for name in types.accelerators if name.endswith(ACCEL)
        ),
        options=rest.options,
        commands=schema.commands(),
        netdevs=schema.argument_branches("netdev_add"),
        blockdevs=schema.argument_branches("blockdev-add"),
        chardevs=_only(schema.argument_branches("chardev-add", "backend"), rest.chardevs),
        audiodevs=schema.returned_branches("query-audiodevs"),
        displays=schema.returned_branches("query-display-options"),
        tpm_types=frozenset(schema.returned_values("query-tpm-types")),
    )


async def _ask_tables(asker: "Asker") -> _Tables:
    entities, machines, cpus = await asyncio.gather(
        asker.answer(tuple[Entity, ...], "query-qmp-schema"),
        asker.answer(tuple[MachineType, ...], "query-machines"),
        asker.cpu_models(),
    )
    return _Tables(
        schema=Schema(entities),
        machines={machine.name: machine for machine in machines},
        cpus={cpu.name: cpu for cpu in cpus},
    )


async def _ask_types(asker: "Asker") -> _Types:
    return _Types(
        *await asyncio.gather(
            asker.types("device"),
            asker.types("cpu"),
            asker.types("user-creatable"),
            asker.types("accel"),
        )
    )


async def _ask_rest(asker: "Asker", schema: Schema) -> _Rest:
    objects, options, chardevs = await asyncio.gather(
        asker.ebpf_objects(schema.argument_values("request-ebpf", "id")),
        asker.answer(tuple[Option, ...], "query-command-line-options"),
        asker.answer(tuple[Named, ...], "query-chardev-backends"),
    )
    return _Rest(
        objects=objects,
        options={
            entry.option: frozenset(parameter.name for parameter in entry.parameters)
            for entry in options
        },
        chardevs=frozenset(entry.name for entry in chardevs),
    )


def _only(branches: dict[str, frozenset[str]], names: Iterable[str]) -> dict[str, frozenset[str]]:
    """Return those of *branches* that are among *names*."""
    wanted = frozenset(names)
    return {name: members for name, members in branches.items() if name in wanted}


def _whole(devices: frozenset[str]) -> frozenset[str]:
    """Return *devices* without those that are made of one which is missing.

    Graphics cards of virtio are modules that contain another device, whose own module may come with
    another package: Debian 12 has virtio-vga-gl in one and virtio-gpu-gl-device in another.
    Creating the first without the second aborts QEMU (qom/object.c, "missing object type").
    """
    return frozenset(name for name in devices if (_core(name) or name) in devices)


def _core(driver: str) -> str:
    """Return the device that the virtio graphics card *driver* is made of; empty for all others."""
    if driver in ("vhost-user-gpu-pci", "vhost-user-vga"):
        return "vhost-user-gpu"
    if driver.startswith(("virtio-gpu", "virtio-vga")):
        return "virtio-gpu-gl-device" if "-gl" in driver else "virtio-gpu-device"
    return ""
