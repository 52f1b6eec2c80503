# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether the files of a UEFI firmware belong together: its code, the template, the variables.

Code and variables are two files that are next to each other in flash. The code is built for one
total size and looks for its variables at a fixed place. QEMU does not check this. With a file of
another size, Debian's OVMF ends in a processor exception before it shows anything, or boots and
forgets every variable, depending on the build (seen with 2022.11 on QEMU 10.0).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from bpferry.commandline.context import Context
from bpferry.commandline.system.firmware import variables_of
from bpferry.commandline.system.firmware_choice import Flash, firmware_of
from bpferry.errors import BpferryError
from bpferry.machine.paths import exists
from bpferry.qemu.firmware import Descriptor

MAGIC: Final = b"QFI\xfb"
SIZE_AT: Final = slice(24, 32)
"""Magic and size in the header of a qcow2 image (docs/interop/qcow2.rst)."""

BLOCK: Final = 4096
"""The size of flash on a PC is a multiple of this (hw/i386/pc_sysfw.c)."""

MOST: Final = 8 * 2**20
"""The limit for all flash of a PC together (FLASH_SIZE_LIMIT, hw/i386/pc_sysfw.c)."""

FIXED: Final = {"aarch64": 64 * 2**20, "arm": 64 * 2**20, "riscv64": 32 * 2**20}
"""Bytes of each of the two pieces of flash of a virt machine (virt.c in hw/arm and hw/riscv)."""


SECURE_WORDS: Final = ("secboot", "secure", ".ms.", "snakeoil")
"""Parts of the names of firmware with secure boot, in Fedora, Arch, Debian and Ubuntu."""


class Piece(NamedTuple):
    """One file of the firmware."""

    what: str
    path: str
    format: str
    """The format that the document or the descriptor gives."""
    key: str

    def __str__(self) -> str:
        return f"{self.what} '{self.path}'"


def find_firmware_faults(context: Context) -> Iterator[BpferryError]:
    """Yield an error for each way in which the files of the firmware do not fit together.

    The error's element is a key of the model. Files that do not exist are reported elsewhere.
    """
    flash = firmware_of(context)
    if not isinstance(flash, Flash):
        return
    code = Piece("the firmware", flash.code, flash.code_format, _key(context, "loader"))
    stored = _variables(context, flash)
    for piece in (code, *stored):
        yield from _check_format(piece)
    size = _size(code)
    if size is None:
        return
    fixed = FIXED.get(context.capabilities.arch)
    yield from _check_code(code, size, fixed)
    wanted = fixed or _wanted(flash, size, context.firmware)
    for piece in stored:
        yield from _check_variables(piece, code, wanted, context.firmware)


def find_other_firmware(path: str, arch: str, descriptors: tuple[Descriptor, ...]) -> str:
    """Return what to write instead of *path*, firmware of another distribution; empty if unknown.

    The file's name says whether it has secure boot, by the words that distributions use.
    """
    secure = any(word in Path(path).name.lower() for word in SECURE_WORDS)
    for found in descriptors:
        file = found.mapping.executable
        for_arch = any(target.architecture == arch for target in found.targets)
        if file is not None and for_arch and secure is ("secure-boot" in found.features):
            template = found.mapping.nvram_template
            of_it = f" with the template '{template.filename}'" if template else ""
            return f"this host has '{file.filename}'{of_it}; firmware 'efi' chooses one by itself"
    return ""


def _key(context: Context, key: str) -> str:
    return key if getattr(context.machine, key) is not None else "firmware"


def _variables(context: Context, flash: Flash) -> list[Piece]:
    """Return the template, if it will be used, and the variables, if they exist already."""
    target = variables_of(context, flash)
    if target is None:
        return []
    key = _key(context, "nvram")
    if exists(target.path):
        return [Piece("the file of variables", target.path, target.format, key)]
    if flash.template is None:
        return []
    return [Piece("the template of variables", flash.template, flash.template_format, key)]


def _check_format(piece: Piece) -> Iterator[BpferryError]:
    head = _head(piece.path)
    if head is None:
        return
    found = "qcow2" if head.startswith(MAGIC) else "raw"
    if found != piece.format:
        yield BpferryError(
            f"{piece} is {found}, and is used as {piece.format}",
            f"set the format to '{found}', or name a file that is {piece.format}",
            piece.key,
        )


def _check_code(code: Piece, size: int, fixed: int | None) -> Iterator[BpferryError]:
    if fixed is not None and size != fixed:
        yield BpferryError(
            f"{code} has {size:,} bytes, and the machine's flash has {fixed:,}",
            f"pad it: truncate -s {fixed} on a copy of it",
            code.key,
        )
    elif fixed is None and (size % BLOCK or not 0 < size <= MOST):
        yield BpferryError(
            f"{code} has {size:,} bytes; flash of a PC has whole {BLOCK:,} bytes, up to {MOST:,}",
            "name a firmware for flash, such as OVMF_CODE_4M.fd; other firmware has the type 'rom'",
            code.key,
        )


def _wanted(flash: Flash, size: int, descriptors: tuple[Descriptor, ...]) -> int:
    """Return the size of the variables that the code of *size* bytes looks for.

    It is that of the template in its own package. Firmware without a descriptor is taken for OVMF,
    whose code and variables together are a power of two (OvmfPkg: FD_SIZE_1MB to 4MB).
    """
    for found in descriptors:
        executable, template = found.mapping.executable, found.mapping.nvram_template
        if executable and template and _same_file(executable.filename, flash.code):
            own = _size(Piece("", template.filename, template.format, ""))
            if own is not None:
                return own
    return (1 << size.bit_length()) - size


def _check_variables(
    piece: Piece, code: Piece, wanted: int, descriptors: tuple[Descriptor, ...]
) -> Iterator[BpferryError]:
    size = _size(piece)
    if size is None or size == wanted:
        return
    made = piece.what == "the file of variables"
    yield BpferryError(
        f"{piece} has {size:,} bytes, and {code} looks for {wanted:,}: they are not from the same "
        "build",
        _way_out(code, descriptors)
        + ("; or move the file away, and a new one is made from the template" if made else ""),
        piece.key,
    )


def _way_out(code: Piece, descriptors: tuple[Descriptor, ...]) -> str:
    for found in descriptors:
        executable, template = found.mapping.executable, found.mapping.nvram_template
        if executable and template and _same_file(executable.filename, code.path):
            return f"use '{template.filename}', which is made for this firmware"
    return "use the template from the firmware's own package"


def _same_file(one: str, other: str) -> bool:
    return one == other or Path(one).resolve() == Path(other).resolve()


def _head(path: str) -> bytes | None:
    try:
        with Path(path).open("rb") as file:
            return file.read(SIZE_AT.stop)
    except OSError:
        return None


def _size(piece: Piece) -> int | None:
    """Return the bytes that the guest sees of *piece*; None if that is unknown."""
    head = _head(piece.path)
    if head is None:
        return None
    if head.startswith(MAGIC):
        return int.from_bytes(head[SIZE_AT])
    return Path(piece.path).stat().st_size
