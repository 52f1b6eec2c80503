# SPDX-License-Identifier: LGPL-2.1-or-later
"""The files of the firmware.

UEFI variables are kept in a file for each VM, which is made from the firmware's template if it does
not exist yet.
"""

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from bpferry.commandline.context import Context, mistaken, unsupported
from bpferry.commandline.parts import Copy, Option, Part, json_of
from bpferry.commandline.system.firmware_choice import (
    Flash,
    Rom,
    firmware_of,
    loader_of,
    nvram_of,
)

CODE_NODE: Final = "pflash0-format"
VARIABLES_NODE: Final = "pflash1-format"


def parts(context: Context) -> Iterator[Part]:
    """Yield the firmware's files."""
    found = firmware_of(context)
    if isinstance(found, Rom):
        yield Option("-bios", found.path)
    elif found is not None:
        yield _node(CODE_NODE, found.code, found.code_format, read_only=found.read_only)
        if found.secure:
            yield Option("-global", "driver=cfi.pflash01,property=secure,value=on")
        yield from _variables(context, found)


def machine_properties(context: Context) -> dict[str, object]:
    """Return the properties of the machine that are about firmware."""
    found = firmware_of(context)
    graphics = False if context.machine.serial_bios else None
    if graphics is False and context.family not in ("pc", "q35"):
        raise unsupported(
            "serial-bios",
            f"'{context.machine_type}' has no BIOS that could use the serial port",
            "leave it out, or use an x86 machine without UEFI",
        )
    if not isinstance(found, Flash):
        return {"graphics": graphics}
    return {
        "graphics": graphics,
        "smm": True if found.needs_smm else context.machine.features.smm,
        "pflash0": CODE_NODE,
        "pflash1": VARIABLES_NODE if _has_variables(context, found) else None,
    }


def _has_variables(context: Context, flash: Flash) -> bool:
    if loader_of(context.machine).stateless:
        if context.machine.nvram is not None:
            raise mistaken(
                "nvram",
                "the loader is stateless",
                "leave nvram out, or let the loader not be stateless",
            )
        return False
    return flash.read_only


class Variables(Struct, frozen=True):
    """The file in which the firmware keeps its variables. It need not exist yet."""

    path: str
    format: str


def variables_of(context: Context, flash: Flash) -> Variables | None:
    """Return where the variables of *flash* are kept; None where it keeps none.

    Raises:
        Unsupported: they cannot be kept as the document says.
    """
    if not _has_variables(context, flash):
        return None
    nvram = nvram_of(context.machine)
    image_format = nvram.format or flash.template_format
    path = nvram.path or nvram.file
    if path is not None and not path.startswith("/"):
        raise mistaken("nvram.path", f"'{path}' is not an absolute path", "write it from / on")
    return Variables(
        path or f"{context.folders.state}/variables.{_suffix(image_format)}", image_format
    )


def _variables(context: Context, flash: Flash) -> Iterator[Part]:
    kept = variables_of(context, flash)
    if kept is None:
        return
    nvram = nvram_of(context.machine)
    key = "nvram" if context.machine.nvram else ("loader" if context.machine.loader else "firmware")
    if flash.template is not None:
        if kept.format != flash.template_format:
            raise unsupported(
                "nvram.format",
                f"the template '{flash.template}' is {flash.template_format}",
                "use the format of the template",
            )
        yield Copy(flash.template, kept.path, key)
    elif (nvram.path or nvram.file) is None:
        raise unsupported(
            key, f"there is no template for the variables of '{flash.code}'",
            "name the template of nvram, or a file that is there already",
        )  # fmt: skip
    yield _node(VARIABLES_NODE, kept.path, kept.format, read_only=False)


def _suffix(image_format: str) -> str:
    return "fd" if image_format == "raw" else image_format


def _node(name: str, path: str, image_format: str, *, read_only: bool) -> Option:
    return Option(
        "-blockdev",
        json_of(
            {
                "driver": image_format,
                "node-name": name,
                "read-only": read_only,
                "file": {"driver": "file", "filename": path, "read-only": read_only},
            }
        ),
    )
