# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ask one QEMU one thing at a time, and convert its answer.

One QEMU may refuse what another one answers: that is an answer too, if it means that there is
nothing of the kind. Any other failure ends the probe.
"""

import asyncio
import base64
import binascii
from collections.abc import Iterable
from typing import Final, TypeVar

import msgspec

from bpferry.domain.digest import sha256
from bpferry.errors import QemuError
from bpferry.qemu.capabilities import CpuModel, EbpfObject, MachineType, family_of
from bpferry.qemu.monitor import CommandRefused, Monitor

T = TypeVar("T")

MAX_OBJECT_BYTES: Final = 8 * 1024 * 1024
"""The largest eBPF object. Today's only one has 20,208 bytes."""

MAX_OBJECTS: Final = 64
"""The most objects of one QEMU; today it has one."""

EXPERIMENTAL: Final = "x-"
"""The prefix of properties that QEMU considers unstable; each PCI device has a dozen of them.

No launcher sets them, and without them reading the cache takes a third less time.
"""

FAMILIES: Final = ("pc-i440fx", "pc-q35", "virt", "s390-ccw-virtio", "pseries")
"""Families of machine types that are asked about. Creating one of another kind may abort a QEMU
without a machine: microvm does in 7.2 (hw/i386/acpi-microvm.c, an assertion)."""


class Named(msgspec.Struct, frozen=True):
    """An entry of a list in which only the names matter."""

    name: str


class _Property(msgspec.Struct, frozen=True):
    name: str
    type: str


class Option(msgspec.Struct, frozen=True):
    """An entry of ``query-command-line-options``."""

    option: str
    parameters: tuple[Named, ...]


class Target(msgspec.Struct, frozen=True):
    """What ``query-target`` answers."""

    arch: str


class _Numbers(msgspec.Struct, frozen=True):
    major: int
    minor: int
    micro: int


class Version(msgspec.Struct, frozen=True):
    """What ``query-version`` answers."""

    qemu: _Numbers
    package: str

    def triple(self) -> tuple[int, int, int]:
        """Return the version as people write it."""
        return (self.qemu.major, self.qemu.minor, self.qemu.micro)


class _Object(msgspec.Struct, frozen=True):
    object: str


class Asker:
    """Asks one QEMU, and converts its answers."""

    def __init__(self, qemu: str, monitor: Monitor) -> None:
        self._qemu = qemu
        self._monitor = monitor

    async def answer(self, kind: type[T], command: str, **arguments: object) -> T:
        """Return the answer to *command* as *kind*, strictly."""
        answer = await self._monitor.execute(command, arguments or None)
        try:
            return msgspec.convert(answer, kind)
        except msgspec.ValidationError as error:
            raise QemuError(
                f"'{self._qemu}' gave an answer to '{command}' that is not valid QMP: {error}"
            ) from error

    async def types(self, base: str) -> frozenset[str]:
        """Return the QOM types below *base* that can be instantiated."""
        found = await self.answer(
            tuple[Named, ...], "qom-list-types", implements=base, abstract=False
        )
        return frozenset(entry.name for entry in found)

    async def cpu_models(self) -> tuple[CpuModel, ...]:
        """Return the models of processors; none if QEMU does not list them for the target."""
        try:
            return await self.answer(tuple[CpuModel, ...], "query-cpu-definitions")
        except CommandRefused:
            return ()

    async def device_properties(self, drivers: Iterable[str]) -> dict[str, dict[str, str]]:
        """Return the properties of each of *drivers*."""
        names = sorted(drivers)
        found = await asyncio.gather(
            *(self._properties("device-list-properties", name) for name in names)
        )
        return dict(zip(names, found, strict=True))

    async def machine_properties(
        self, machines: Iterable[MachineType]
    ) -> dict[str, dict[str, str]]:
        """Return the properties of each family of *machines*, by its member that has an alias."""
        chosen: dict[str, str] = {}
        for machine in machines:
            family = family_of(machine.name)
            if family in FAMILIES and (machine.alias or family not in chosen):
                chosen[family] = machine.name
        found = await asyncio.gather(
            *(
                self._properties("qom-list-properties", f"{name}-machine")
                for name in chosen.values()
            )
        )
        return dict(zip(chosen, found, strict=True))

    async def _properties(self, command: str, name: str) -> dict[str, str]:
        """Return the properties of the QOM type *name*; none if QEMU refuses to list them."""
        try:
            found = await self.answer(tuple[_Property, ...], command, typename=name)
        except CommandRefused:
            return {}
        return {
            entry.name: entry.type for entry in found if not entry.name.startswith(EXPERIMENTAL)
        }

    async def ebpf_objects(self, ids: Iterable[str]) -> dict[str, EbpfObject]:
        """Return the eBPF objects with *ids*."""
        names = list(ids)[:MAX_OBJECTS]
        found = await asyncio.gather(
            *(self.answer(_Object, "request-ebpf", id=name) for name in names)
        )
        return {
            name: decode_object(self._qemu, name, entry.object)
            for name, entry in zip(names, found, strict=True)
        }


def decode_object(qemu: str, name: str, text: str) -> EbpfObject:
    """Return the object *name* that *qemu* sent as base64 *text*.

    Raises:
        QemuError: it is not clean base64, is empty, or is too long.
    """
    try:
        data = base64.b64decode(text)
    except (binascii.Error, ValueError) as error:
        raise QemuError(f"'{qemu}' sent its eBPF object '{name}' damaged: {error}") from error
    if base64.b64encode(data).decode() != text:
        # Python skips what is not base64 and accepts surplus padding, even when told to be strict.
        raise QemuError(f"'{qemu}' sent its eBPF object '{name}' damaged: it is not valid base64")
    if not 0 < len(data) <= MAX_OBJECT_BYTES:
        raise QemuError(f"'{qemu}' sent an eBPF object '{name}' of {len(data)} bytes")
    return EbpfObject(data, sha256(data))
