# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether QEMU can use the files of a firmware as the description says: as flash, and writable."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bpferry.commandline.context import Context
from bpferry.commandline.system.firmware import variables_of
from bpferry.commandline.system.firmware_choice import Flash, Rom, firmware_of
from bpferry.domain.forms import either
from bpferry.errors import NotReady
from bpferry.machine.access import why_not_writable
from bpferry.machine.paths import exists, explain_closed

ROM_BLOCK: Final = 64 * 2**10
"""The size of a BIOS of a PC is a multiple of this (x86_bios_rom_init, hw/i386/x86-common.c)."""


def find_unusable_firmware(context: Context) -> Iterator[NotReady]:
    """Yield what QEMU could not do with a file of the firmware; the element is a key of the model.

    Files of the wrong size are reported by ``uefi_files``, and missing ones by ``files``.
    """
    found = firmware_of(context)
    if isinstance(found, Rom):
        yield from _rom(found, context)
    elif found is not None:
        yield from _code(found)
        yield from _variables(found, context)


def _rom(rom: Rom, context: Context) -> Iterator[NotReady]:
    try:
        size = Path(rom.path).stat().st_size
    except OSError:
        return
    if _is_for_flash(rom, context):
        problem = f"'{rom.path}' is firmware for flash, which cannot be loaded as a BIOS"
    elif context.family in ("pc", "q35") and (size % ROM_BLOCK or not size):
        problem = (
            f"'{rom.path}' has {size:,} bytes: QEMU loads a BIOS of whole {ROM_BLOCK:,} bytes only"
        )
    else:
        return
    yield NotReady(
        problem,
        "firmware for flash, such as OVMF_CODE_4M.fd, needs "
        + either("type = 'pflash' and read-only = true", "type='pflash' readonly='yes'"),
        "loader",
    )


def _is_for_flash(rom: Rom, context: Context) -> bool:
    """Say whether this host's descriptors have it as the code of firmware with its own store."""
    for found in context.firmware:
        code = found.mapping.executable
        in_parts = found.mapping.device == "flash" and found.mapping.mode == "split"
        if in_parts and code is not None and code.filename == rom.path:
            return True
    return False


def _code(flash: Flash) -> Iterator[NotReady]:
    if flash.read_only or not exists(flash.code):
        return
    cause = why_not_writable(flash.code)
    if cause:
        yield NotReady(
            f"QEMU would write to the firmware '{flash.code}', and cannot: {cause}",
            "let it only be read, with the variables in a file of their own: "
            + either("read-only = true", "readonly='yes'"),
            "loader",
        )


def _variables(flash: Flash, context: Context) -> Iterator[NotReady]:
    kept = variables_of(context, flash)
    if kept is None:
        return
    key = "nvram" if context.machine.nvram is not None else "loader"
    if exists(kept.path):
        cause = why_not_writable(kept.path)
        if cause:
            message = f"cannot write to the file of variables '{kept.path}': {cause}"
            yield NotReady(message, "make it writable, or name another file", key)
    elif flash.template is None:
        cause, fix = explain_closed(kept.path)
        if cause:
            yield NotReady(f"cannot use '{kept.path}': {cause}", fix, key)
        else:
            yield NotReady(
                f"there is no '{kept.path}', and no template for the variables of '{flash.code}'",
                "name the template of nvram, or a file that is there already",
                key,
            )
