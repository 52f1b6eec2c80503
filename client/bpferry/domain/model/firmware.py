# SPDX-License-Identifier: LGPL-2.1-or-later
"""Firmware: what runs before any operating system, and what it is told."""

from typing import Annotated, Literal

import msgspec

from bpferry.domain.binding import At, Form, Table

Format = Literal["raw", "qcow2"]


class FirmwareFeature(Table, frozen=True, kw_only=True):
    """A feature that the firmware must have, or must not have."""

    name: Annotated[Literal["secure-boot", "enrolled-keys"], At("@name")]
    enabled: Annotated[bool, At("@enabled", Form.YES_NO, always=True)] = True


class Loader(Table, frozen=True, kw_only=True):
    """The program of the firmware."""

    path: Annotated[str | None, At(".", Form.FILE)] = None
    type: Annotated[Literal["rom", "pflash"] | None, At("@type")] = None
    read_only: Annotated[bool | None, At("@readonly", Form.YES_NO)] = None
    secure: Annotated[bool | None, At("@secure", Form.YES_NO)] = None
    """Whether only code in system management mode can write to the flash."""
    stateless: Annotated[bool | None, At("@stateless", Form.YES_NO)] = None
    """Whether the firmware keeps no variables."""
    format: Annotated[Format | None, At("@format")] = None


class Nvram(Table, frozen=True, kw_only=True):
    """Where the firmware keeps its variables: a file that is first made from a template."""

    path: Annotated[str | None, At(".")] = None
    """Absolute. Its folder has to exist."""
    type: Annotated[Literal["file"] | None, At("@type")] = None
    file: Annotated[str | None, At("source/@file")] = None
    """Another place for the path."""
    template: Annotated[str | None, At("@template", Form.FILE)] = None
    template_format: Annotated[Format | None, At("@templateFormat")] = None
    format: Annotated[Format | None, At("@format")] = None


class BootMenu(Table, frozen=True, kw_only=True):
    """Whether the firmware lets the user choose what to boot."""

    enabled: Annotated[bool, At("@enable", Form.YES_NO, always=True)] = True
    timeout: Annotated[Annotated[int, msgspec.Meta(ge=0, le=65535)] | None, At("@timeout")] = None
    """Milliseconds."""


class AcpiTable(Table, frozen=True, kw_only=True):
    """A table for the guest's ACPI."""

    path: Annotated[str, At(".", Form.FILE)]
    type: Annotated[Literal["raw", "slic", "msdm"], At("@type", always=True)] = "raw"


class BiosEntry(Table, frozen=True, kw_only=True):
    """A value about the firmware."""

    name: Annotated[Literal["vendor", "version", "date", "release"], At("@name")]
    value: Annotated[str, At(".")] = ""


class SystemEntry(Table, frozen=True, kw_only=True):
    """A value about the machine."""

    name: Annotated[
        Literal["manufacturer", "product", "version", "serial", "uuid", "sku", "family"],
        At("@name"),
    ]
    value: Annotated[str, At(".")] = ""


class BoardEntry(Table, frozen=True, kw_only=True):
    """A value about a board."""

    name: Annotated[
        Literal["manufacturer", "product", "version", "serial", "asset", "location"], At("@name")
    ]
    value: Annotated[str, At(".")] = ""


class ChassisEntry(Table, frozen=True, kw_only=True):
    """A value about the case."""

    name: Annotated[Literal["manufacturer", "version", "serial", "asset", "sku"], At("@name")]
    value: Annotated[str, At(".")] = ""


Entry = BiosEntry | SystemEntry | BoardEntry | ChassisEntry


class FwCfgEntry(Table, frozen=True, kw_only=True):
    """A value for the guest in QEMU's fw_cfg device."""

    name: Annotated[str, At("@name")]
    value: Annotated[str | None, At(".")] = None
    file: Annotated[str | None, At("@file", Form.FILE)] = None


class BaseBoard(Table, frozen=True, kw_only=True):
    """A board, as SMBIOS describes it."""

    entries: Annotated[tuple[BoardEntry, ...], At("entry")] = ()


class Sysinfo(Table, frozen=True, kw_only=True):
    """What the guest can read about the machine it is in."""

    type: Annotated[Literal["smbios", "fwcfg"], At("@type")]
    bios: Annotated[tuple[BiosEntry, ...], At("bios/entry")] = ()
    system: Annotated[tuple[SystemEntry, ...], At("system/entry")] = ()
    boards: Annotated[tuple[BaseBoard, ...], At("baseBoard")] = ()
    chassis: Annotated[tuple[ChassisEntry, ...], At("chassis/entry")] = ()
    oem_strings: Annotated[tuple[str, ...], At("oemStrings/entry")] = ()
    entries: Annotated[tuple[FwCfgEntry, ...], At("entry")] = ()
    """For ``fwcfg``."""
