# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the guest can read about the machine it is in: SMBIOS, and values in fw_cfg."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

from bpferry.commandline.context import Context, unsupported
from bpferry.commandline.parts import Found, Option, join
from bpferry.domain.identity import is_uuid, named_uuid
from bpferry.domain.names import Named, listed
from bpferry.errors import Unsupported

if TYPE_CHECKING:
    from bpferry.domain.model.firmware import BaseBoard, Entry, FwCfgEntry, Sysinfo

RESERVED: Final = ("opt/ovmf/", "opt/org.qemu/")
"""Names that are not for users (docs/specs/fw_cfg.rst in QEMU)."""


def parts(context: Context) -> Iterator[Found]:
    """Yield the tables and the values."""
    machine = context.machine
    described = tuple(listed(machine.sysinfo, "sysinfo"))
    tables = [part for part in described if part.value.type == "smbios"]
    for part in tables:
        yield from _check_uuid(context, part)
    if machine.smbios == "sysinfo" and len(tables) != 1:
        yield unsupported(
            "smbios", f"there are {len(tables)} descriptions of the system", "leave one of them"
        )
    elif machine.smbios == "sysinfo":
        yield from _tables(tables[0])
    for part in described:
        info = part.value
        if info.type == "fwcfg":
            if info.bios or info.system or info.boards or info.chassis or info.oem_strings:
                yield part.mistake(
                    "type",
                    "tables go with the type 'smbios'",
                    "leave the tables out, or write the type 'smbios'",
                )
            for entry in part.parts("entries", info.entries):
                yield from _check_value(entry)
                yield Option("-fw_cfg", _value(entry.value))
        elif info.entries:
            yield part.mistake(
                "entries",
                "they go with the type 'fwcfg'",
                "leave the entries out, or write the type 'fwcfg'",
            )


def _tables(part: "Named[Sysinfo]") -> Iterator[Found]:
    info = part.value
    yield from _table(0, info.bios)
    yield from _table(1, info.system)
    boards = [board for board in part.parts("boards", info.boards) if _says_something(board.value)]
    for board in boards[1:]:
        yield board.refusal("", "QEMU describes one board only", "leave one board")
    for board in boards:
        yield from _table(2, board.value.entries)
    yield from _table(3, info.chassis)
    if info.oem_strings:
        doubled = (text.replace(",", ",,") for text in info.oem_strings)
        yield Option("-smbios", "type=11" + "".join(f",value={text}" for text in doubled))


def _says_something(board: "BaseBoard") -> bool:
    return any(entry.value for entry in board.entries)


def _table(number: int, entries: "Sequence[Entry]") -> Iterator[Option]:
    """Yield table *number*.

    Of values with the same name the first counts, and an empty one is ignored: libvirt asks for
    each by its XPath (virXPathEvalString, src/util/virxml.c).
    """
    said: dict[str, str] = {}
    for entry in entries:
        said.setdefault(str(entry.name), entry.value)
    said = {name: value for name, value in said.items() if value}
    if said:
        yield Option("-smbios", join("", type=number, **said))


def _check_uuid(context: Context, part: "Named[Sysinfo]") -> Iterator[Unsupported]:
    """Yield a refusal of a UUID that the VM does not have.

    The first one counts, and an empty one is ignored.
    """
    for entry in part.parts("system", part.value.system):
        said = entry.value.value
        if entry.value.name != "uuid":
            continue
        if said and not is_uuid(said):
            yield entry.mistake(
                "", f"'{said}' is no UUID", "write a UUID, such as 'uuidgen' prints"
            )
            return
        named = named_uuid(context.machine)
        if said and named != UUID(said):
            yield entry.mistake(
                "",
                f"the VM has another UUID, '{named}'",
                "write the same UUID in both places, or leave one out",
            )
        return


def _check_value(part: "Named[FwCfgEntry]") -> Iterator[Unsupported]:
    entry = part.value
    if not entry.name.startswith("opt/") or entry.name.startswith(RESERVED):
        yield part.refusal(
            "name",
            "names begin with 'opt/', and not with those of QEMU",
            "write a name that begins with 'opt/', such as opt/org.example/name",
        )
    if (entry.value is None) is (entry.file is None):
        yield part.mistake(
            "", "it has to have one of a value and a file", "write either a value or a file"
        )


def _value(entry: "FwCfgEntry") -> str:
    return join("", name=entry.name, string=entry.value, file=entry.file)
