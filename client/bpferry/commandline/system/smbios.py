# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the guest can read about the machine it is in: SMBIOS, and values in fw_cfg."""

from collections.abc import Iterator, Sequence
from typing import Final
from uuid import UUID

from bpferry.commandline.context import Context, unsupported
from bpferry.commandline.parts import Option, Part, join
from bpferry.domain.identity import is_uuid, named_uuid
from bpferry.domain.model.firmware import BaseBoard, Entry, FwCfgEntry, Sysinfo

RESERVED: Final = ("opt/ovmf/", "opt/org.qemu/")
"""Names that are not for users (docs/specs/fw_cfg.rst in QEMU)."""


def parts(context: Context) -> Iterator[Part]:
    """Yield the tables and the values."""
    machine = context.machine
    tables = [
        (f"sysinfo[{index}]", info)
        for index, info in enumerate(machine.sysinfo)
        if info.type == "smbios"
    ]
    for key, info in tables:
        _check_uuid(context, info, key)
    if machine.smbios == "sysinfo":
        if len(tables) != 1:
            raise unsupported("smbios", f"there are {len(tables)} descriptions of the system")
        yield from _tables(*tables[0])
    for index, info in enumerate(machine.sysinfo):
        if info.type == "fwcfg":
            if info.bios or info.system or info.boards or info.chassis or info.oem_strings:
                raise unsupported(f"sysinfo[{index}].type", "tables go with the type 'smbios'")
            for place, entry in enumerate(info.entries):
                yield Option("-fw_cfg", _value(entry, f"sysinfo[{index}].entries[{place}]"))
        elif info.entries:
            raise unsupported(f"sysinfo[{index}].entries[0]", "it goes with the type 'fwcfg'")


def _tables(key: str, info: Sysinfo) -> Iterator[Option]:
    yield from _table(0, info.bios)
    yield from _table(1, info.system)
    boards = [index for index, board in enumerate(info.boards) if _says_something(board)]
    for index in boards[1:]:
        raise unsupported(f"{key}.boards[{index}]", "QEMU describes one board only")
    for board in info.boards:
        yield from _table(2, board.entries)
    yield from _table(3, info.chassis)
    if info.oem_strings:
        doubled = (text.replace(",", ",,") for text in info.oem_strings)
        yield Option("-smbios", "type=11" + "".join(f",value={text}" for text in doubled))


def _says_something(board: BaseBoard) -> bool:
    return any(entry.value for entry in board.entries)


def _table(number: int, entries: Sequence[Entry]) -> Iterator[Option]:
    """Yield table *number*.

    Of values with the same name the first counts, and an empty one says nothing: libvirt asks for
    each by its XPath (virXPathEvalString, src/util/virxml.c).
    """
    said: dict[str, str] = {}
    for entry in entries:
        said.setdefault(str(entry.name), entry.value)
    said = {name: value for name, value in said.items() if value}
    if said:
        yield Option("-smbios", join("", type=number, **said))


def _check_uuid(context: Context, info: Sysinfo, key: str) -> None:
    """Refuse a UUID that the VM does not have. The first counts, and an empty one is none."""
    for index, entry in enumerate(info.system):
        if entry.name != "uuid":
            continue
        if entry.value and not is_uuid(entry.value):
            raise unsupported(f"{key}.system[{index}]", f"'{entry.value}' is no UUID")
        named = named_uuid(context.machine)
        if entry.value and named != UUID(entry.value):
            raise unsupported(f"{key}.system[{index}]", f"the VM has another UUID, '{named}'")
        return


def _value(entry: FwCfgEntry, key: str) -> str:
    if not entry.name.startswith("opt/") or entry.name.startswith(RESERVED):
        raise unsupported(f"{key}.name", "names begin with 'opt/', and not with those of QEMU")
    if (entry.value is None) is (entry.file is None):
        raise unsupported(key, "it has to have one of a value and a file")
    return join("", name=entry.name, string=entry.value, file=entry.file)
