# SPDX-License-Identifier: LGPL-2.1-or-later
"""Firmware: what runs before any operating system, and what it is told."""

from typing import Annotated, Literal

import msgspec

from bpferry.domain.binding import At, Form, Placed, Table

Format = Literal["raw", "qcow2"]


class FirmwareFeature(Table, frozen=True, kw_only=True):
    """A feature that the firmware must have, or must not have."""

    name: Placed[Literal["secure-boot", "enrolled-keys"], At("@name")]
    enabled: Placed[bool, At("@enabled", Form.YES_NO, always=True)] = True


class Loader(Table, frozen=True, kw_only=True):
    """The program of the firmware."""

    path: Placed[str | None, At(".", Form.FILE)] = None
    type: Placed[Literal["rom", "pflash", None], At("@type")] = None
    read_only: Placed[bool | None, At("@readonly", Form.YES_NO)] = None
    secure: Placed[bool | None, At("@secure", Form.YES_NO)] = None
    """Whether only code in system management mode can write to the flash."""
    stateless: Placed[bool | None, At("@stateless", Form.YES_NO)] = None
    """Whether the firmware keeps no variables."""
    format: Placed[Format | None, At("@format")] = None


class Nvram(Table, frozen=True, kw_only=True):
    """Where the firmware keeps its variables: a file that is first made from a template."""

    path: Placed[str | None, At(".")] = None
    """Absolute. Its folder has to exist."""
    type: Placed[Literal["file", None], At("@type")] = None
    file: Placed[str | None, At("source/@file")] = None
    """Another place for the path."""
    template: Placed[str | None, At("@template", Form.FILE)] = None
    template_format: Placed[Format | None, At("@templateFormat")] = None
    format: Placed[Format | None, At("@format")] = None


class BootMenu(Table, frozen=True, kw_only=True):
    """Whether the firmware lets the user choose what to boot."""

    enabled: Placed[bool, At("@enable", Form.YES_NO, always=True)] = True
    timeout: Placed[Annotated[int, msgspec.Meta(ge=0, le=65535)] | None, At("@timeout")] = None
    """Milliseconds."""


class AcpiTable(Table, frozen=True, kw_only=True):
    """A table for the guest's ACPI."""

    path: Placed[str, At(".", Form.FILE)]
    type: Placed[Literal["raw", "slic", "msdm"], At("@type", always=True)] = "raw"


class BiosEntry(Table, frozen=True, kw_only=True):
    """A value about the firmware."""

    name: Placed[Literal["vendor", "version", "date", "release"], At("@name")]
    value: Placed[str, At(".")] = ""


class SystemEntry(Table, frozen=True, kw_only=True):
    """A value about the machine."""

    name: Placed[
        Literal["manufacturer", "product", "version", "serial", "uuid", "sku", "family"],
        At("@name"),
    ]
    value: Placed[str, At(".")] = ""


class BoardEntry(Table, frozen=True, kw_only=True):
    """A value about a board."""

    name: Placed[
        Literal["manufacturer", "product", "version", "serial", "asset", "location"], At("@name")
    ]
    value: Placed[str, At(".")] = ""


class ChassisEntry(Table, frozen=True, kw_only=True):
    """A value about the case."""

    name: Placed[Literal["manufacturer", "version", "serial", "asset", "sku"], At("@name")]
    value: Placed[str, At(".")] = ""


Entry = BiosEntry | SystemEntry | BoardEntry | ChassisEntry


class FwCfgEntry(Table, frozen=True, kw_only=True):
    """A value for the guest in QEMU's fw_cfg device."""

    name: Placed[str, At("@name")]
    value: Placed[str | None, At(".")] = None
    file: Placed[str | None, At("@file", Form.FILE)] = None


class BaseBoard(Table, frozen=True, kw_only=True):
    """A board, as SMBIOS describes it."""

    entries: Placed[tuple[BoardEntry, ...], At("entry")] = ()


class Sysinfo(Table, frozen=True, kw_only=True):
    """What the guest can read about the machine it is in."""

    type: Placed[Literal["smbios", "fwcfg"], At("@type")]
    bios: Placed[tuple[BiosEntry, ...], At("bios/entry")] = ()
    system: Placed[tuple[SystemEntry, ...], At("system/entry")] = ()
    boards: Placed[tuple[BaseBoard, ...], At("baseBoard")] = ()
    chassis: Placed[tuple[ChassisEntry, ...], At("chassis/entry")] = ()
    oem_strings: Placed[tuple[str, ...], At("oemStrings/entry")] = ()
    entries: Placed[tuple[FwCfgEntry, ...], At("entry")] = ()
    """For ``fwcfg``."""
