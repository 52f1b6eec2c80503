# SPDX-License-Identifier: LGPL-2.1-or-later
"""Read the native description of a VM, a TOML file, into the model.

Every mistake is a ``BadInput`` that names the file, the key, what was found, and what is possible.
"""

import difflib
import re
import tomllib
from pathlib import Path
from typing import Final

import msgspec

from bpferry.domain import model
from bpferry.domain.checks import Checker, shorten
from bpferry.domain.document import CardTable, DiskTable, Document, Table
from bpferry.errors import BadInput

MAX_FILE_BYTES: Final = 1024 * 1024
"""One description. A page of text is a long one."""

STEP: Final = re.compile(r"\.?([A-Za-z_-]+)|\[(\d+)\]")
"""One step on the way to an element, such as ``.tap`` or ``[0]``."""

TABLES: Final[dict[str, type[Table]]] = {"disks": DiskTable, "cards": CardTable}


def read_file(path: Path) -> model.Machine:
    """Return the VM that the file *path* describes.

    Raises:
        BadInput: it cannot be read, or says something that is not possible.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadInput(
            f"cannot read '{path}': {error.strerror}",
            "give the path of a TOML file that describes a VM",
        ) from error
    if len(raw) > MAX_FILE_BYTES:
        raise BadInput(f"cannot read '{path}': it is longer than {MAX_FILE_BYTES} bytes")
    return read_bytes(raw, path)


def read_bytes(raw: bytes, path: Path) -> model.Machine:
    """Return the VM that *raw* describes; *path* is for messages and for relative paths."""
    try:
        plain = tomllib.loads(raw.decode())
    except UnicodeDecodeError as error:
        raise BadInput(
            f"'{path}' is not UTF-8 text: byte {error.start} is no part of it"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"'{path}' is not valid TOML: {error}") from error
    except ValueError as error:
        # Python's own bound for the digits of a number.
        raise BadInput(f"'{path}' is not valid TOML: {error}") from error
    except RecursionError as error:
        raise BadInput(f"'{path}' is not valid TOML: it is nested too deeply") from error
    try:
        document = msgspec.convert(plain, Document)
    except msgspec.ValidationError as error:
        raise _explain(str(error), plain, path) from error
    return Checker(path).machine(document)


def _explain(complaint: str, plain: dict[str, object], path: Path) -> BadInput:
    """Turn msgspec's *complaint* into an error that names key, value and possibilities."""
    what, _, where = complaint.partition(" - at `$")
    element = where.rstrip("`").lstrip(".")
    quoted = re.search(r"field `([^`]*)`", what)
    if quoted:
        key = f"{element}.{quoted[1]}" if element else quoted[1]
        known = _known_keys(element)
        if "missing" in what:
            return BadInput(f"'{path}': '{key}' is missing", _key_list(known), key)
        return BadInput(f"'{path}': unknown key {shorten(key)}", _suggest(quoted[1], known), key)
    found = shorten(_look_up(plain, element))
    expected = _possibilities(what, element)
    return BadInput(f"'{path}': '{element}' is {found}: {expected}", element=element)


def _known_keys(element: str) -> tuple[str, ...]:
    table = TABLES.get(element.partition("[")[0], Document)
    return tuple(table.__struct_encode_fields__)


def _key_list(known: tuple[str, ...]) -> str:
    return "the keys here are " + ", ".join(known)


def _suggest(key: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    meant = f"did you mean '{near[0]}'? " if near else ""
    return meant + _key_list(known)


def _possibilities(what: str, element: str) -> str:
    """Say what is possible; msgspec does so for all but the choices of a Literal."""
    if what.startswith("Invalid enum value"):
        choices = {"accelerator": model.Accelerator}.get(element, model.DiskFormat)
        return "possible are " + ", ".join(f'"{choice}"' for choice in choices)
    plain = what.replace("`", "").replace("Expected", "expected")
    if element.endswith("queues"):
        return f"{plain}, possible are 1 to {model.MAX_QUEUES}"
    return plain


def _look_up(plain: object, element: str) -> object:
    """Return what stands at *element*, such as ``cards[0].tap``."""
    value = plain
    for key, index in STEP.findall(element):
        if key and isinstance(value, dict):
            value = value.get(key)
        elif index and isinstance(value, list):
            value = value[int(index)]
    return value
