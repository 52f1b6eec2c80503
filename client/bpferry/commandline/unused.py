# SPDX-License-Identifier: LGPL-2.1-or-later
"""Say what is set and has no effect where it is, since what it goes with is not there.

libvirt passes over it without a word, so that it is not refused; nor is it silent here. What
documents of libvirt have everywhere is said of the native form alone (``in_xml``).
"""

import re
from collections.abc import Callable, Collection, Iterator
from typing import Final, TypeVar

from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device, Remark
from bpferry.domain.binding import Table
from bpferry.domain.forms import called, name_of
from bpferry.domain.model.base import Address
from bpferry.domain.model.base import Device as Described
from bpferry.domain.names import USER_PREFIX, Named, characters_of, listed, single
from bpferry.domain.shape import fields_of

T = TypeVar("T", bound=Table)

ADDRESSES: Final = {
    "pci": {"domain", "bus", "slot", "function", "multifunction"},
    "drive": {"controller", "bus", "target", "unit"},
    "virtio-serial": {"controller", "bus", "port"},
    "ccid": {"controller", "slot"},
    "usb": {"bus", "port"},
    "isa": {"iobase", "irq"},
    "dimm": {"slot", "base"},
}
"""What an address says, by its type (virDomainDeviceInfoParseXML)."""

OF_PROCESSES: Final = frozenset({"socket", "socket_type", "reconnect", "reconnect_timeout"})
"""What a disk has that another process serves."""

OF_SERVERS: Final = frozenset({
    "query", "snapshot", "config", "verify", "read_ahead", "timeout", "reconnect_delay",
    "initiator", "user_name", "user", "group", "agent",
})  # fmt: skip
"""What an image on a server has."""

OF_DATA: Final = frozenset({"metadata_cache", "discard", "detect_zeroes", "discard_no_unref"})

OF_PICTURES: Final = frozenset({"ram_kib", "vram_kib", "vram64_kib", "vgamem_kib"})

WITH_RAM: Final = ("vga", "qxl", "vmvga", "bochs")
"""Graphics cards whose memory has a size (``displays.videos``)."""

OF_A_RUN: Final = r"usb|ide|pcie?\.[0-9]+|[a-z][a-z_-]*[0-9]+(-[0-9]+)*"
"""An id that libvirt gave in a run, such as ``net0``: a description that was converted has them."""


def remarks(context: Context, devices: Collection[Device]) -> Iterator[Remark]:
    """Yield what has no effect; *devices* are all of the command line."""
    for rule in RULES:
        yield from rule(context)
    made = {device.id for device in devices}
    for part in _devices(context):
        yield from _address(part)
        yield from _alias(part, context, made)


def _remark(part: Named[T], fields: Collection[str], why: str) -> Iterator[Remark]:
    """Yield a remark for each of *fields* that *part* has set."""
    for field in fields_of(type(part.value)):
        if field.name in fields and getattr(part.value, field.name) != field.default:
            name = name_of(field)
            key = f"{part.key}.{field.key}".lstrip(".")
            yield Remark(f"{name} has no effect: {why}", f"leave out {name}", key)


def _devices(context: Context) -> Iterator[Named[Described]]:
    for field in fields_of(type(context.machine)):
        value = getattr(context.machine, field.name)
        if field.many and value and isinstance(value[0], Described):
            yield from listed(value, field.key)
        elif isinstance(value, Described):
            yield single(value, field.key)


def _address(part: Named[Described]) -> Iterator[Remark]:
    address = part.value.address
    meant = None if address is None else ADDRESSES.get(address.type)
    if address is None or meant is None:
        return
    inside = part.part("address", address)
    others = {field.name for field in fields_of(Address)} - meant - {"type"}
    yield from _remark(inside, others, f"an address of type '{address.type}' has none")
    if address.type == "pci" and not address.is_pci_place and (address.function or 0) > 0:
        why = "an address without a bus and a slot counts as none"
        yield from _remark(inside, {"function"}, why)


def _alias(part: Named[Described], context: Context, made: Collection[str]) -> Iterator[Remark]:
    alias = part.value.alias
    if alias is None or alias in made:
        return
    if alias.startswith(USER_PREFIX):
        yield from _remark(part, {"alias"}, "it is part of the machine, or there is no such device")
    elif not context.in_xml and not re.fullmatch(OF_A_RUN, alias):
        yield from _remark(part, {"alias"}, f"a name that users choose begins with '{USER_PREFIX}'")


def _characters(context: Context) -> Iterator[Remark]:
    for part in characters_of(context.machine):
        if part.value.log is None:
            yield from _remark(part, {"log_append"}, "there is no log")


def _cards(context: Context) -> Iterator[Remark]:
    for part in listed(context.machine.cards, "cards"):
        if not part.value.reconnect:
            yield from _remark(part, {"reconnect_seconds"}, "the connection is not tried again")


def _disks(context: Context) -> Iterator[Remark]:
    if not context.machine.disks:
        return
    from bpferry.domain.model.disks import Disk  # noqa: PLC0415 - where there is one

    for part in listed(context.machine.disks, "disks"):
        disk = part.value
        if disk.type == "vhostuser":
            yield from _remark(part, OF_SERVERS, "another process serves the disk")
            continue
        yield from _remark(part, OF_PROCESSES, f"it is for {called(Disk, 'type')} vhostuser only")
        if (disk.file or disk.block_device or disk.folder or disk.protocol) is None:
            yield from _remark(part, OF_SERVERS, "the drive is empty")
            if not context.in_xml:
                yield from _remark(part, OF_DATA, "the drive is empty")


def _videos(context: Context) -> Iterator[Remark]:
    for part in listed(context.machine.videos, "videos"):
        if part.value.model == "none":
            fields = {field.name for field in fields_of(type(part.value))}
            yield from _remark(part, fields - {"model", "alias", "address"}, "there is no card")
        elif part.value.model not in WITH_RAM and not context.in_xml:
            why = f"the size of a card of model '{part.value.model or 'default'}' is fixed"
            yield from _remark(part, OF_PICTURES, why)


def _graphics(context: Context) -> Iterator[Remark]:
    for part in listed(context.machine.graphics, "graphics"):
        if part.value.type == "spice" and part.value.autoport and not context.in_xml:
            chosen = {name for name in ("port", "tls_port") if (getattr(part.value, name) or 0) > 0}
            yield from _remark(part, chosen, "ports are chosen automatically")


def _memory(context: Context) -> Iterator[Remark]:
    machine = context.machine
    backing = machine.memory_backing
    if backing is not None and backing.allocation != "immediate":
        part = Named("memory-backing", "", backing)
        yield from _remark(part, {"allocation_threads"}, "memory is not allocated at the start")
    if backing is not None and backing.source == "file" and backing.huge_pages is None:
        return
    why = "the memory is not in a file, whose contents could be discarded"
    if backing is not None:
        yield from _remark(Named("memory-backing", "", backing), {"discard"}, why)
    for cell in listed(machine.cpu.numa, "cpu.numa"):
        yield from _remark(cell, {"discard"}, why)
    for module in listed(machine.memory_devices, "memory-devices"):
        yield from _remark(module, {"discard"}, why)


def _system(context: Context) -> Iterator[Remark]:
    machine = context.machine
    for part in listed(machine.sysinfo, "sysinfo"):
        if part.value.type == "smbios" and machine.smbios != "sysinfo":
            wanted = called(type(machine), "smbios")
            fields = {"bios", "system", "boards", "chassis", "oem_strings"}
            yield from _remark(part, fields, f"the guest sees it where {wanted} is 'sysinfo'")
    if machine.clock.offset != "variable":
        clock = Named("clock", "", machine.clock)
        yield from _remark(clock, {"basis"}, "it is for the offset 'variable'")
    if machine.nvram is not None and machine.nvram.path is not None:
        nvram = Named("nvram", "", machine.nvram)
        yield from _remark(nvram, {"file"}, f"{called(type(machine.nvram), 'path')} counts")
    if not machine.redirected_devices:
        for rule in listed(machine.redirection_rules, "redirection-rules"):
            why = "the VM has no redirected devices"
            yield Remark(f"the rule has no effect: {why}", "leave it out", rule.key)


RULES: Final[tuple[Callable[[Context], Iterator[Remark]], ...]] = (
    _characters, _cards, _disks, _videos, _graphics, _memory, _system,
)  # fmt: skip
