# SPDX-License-Identifier: LGPL-2.1-or-later
"""Say what is wrong with a value, where it stands, and what is possible there.

msgspec says what it expected and at which key. The place in the document, the value that was
found, the keys and the words that are possible are added here.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from bpferry.domain.binding import WORDS, Table
from bpferry.domain.model.machine import Machine
from bpferry.domain.origins import Origins
from bpferry.domain.shape import Field, fields_of
from bpferry.errors import BadInput, Unsupported

STEP: Final = re.compile(r"\.?([A-Za-z0-9_-]+)|\[(\d+)\]")
"""One step on the way to a value, such as ``.tap`` or ``[0]``."""


class KeyedUnsupported(Unsupported):
    """An unsupported value, with its key in the model."""

    def __init__(self, message: str, hint: str, element: str, key: str) -> None:
        super().__init__(message, hint, element)
        self.key = key


def explain(
    error: msgspec.ValidationError,
    values: Mapping[str, object],
    origins: Origins,
    *,
    foreign: bool = False,
) -> KeyedUnsupported | BadInput:
    """Return msgspec's *error* about *values* in our words.

    With *foreign*, words and numbers that are not possible here may still be libvirt's: they are
    unsupported, not wrong.
    """
    what, _, where = str(error).partition(" - at `$")
    key = where.rstrip("`").lstrip(".")
    quoted = re.search(r"field `([^`]*)`", what)
    if quoted:
        return _explain_field(what, quoted[1], key, origins, foreign=foreign)
    found = shorten(look_up(values, key))
    message = f"{origins.describe(key)} is {found}: {_possibilities(what, key)}"
    element = origins.element_of(key)
    if foreign and ("enum" in what or ">=" in what or "<=" in what or "matching" in what):
        return KeyedUnsupported(message, "take it out, or change it", element, key)
    return BadInput(message, element=element)


def _explain_field(what: str, name: str, key: str, origins: Origins, *, foreign: bool) -> BadInput:
    whole = f"{key}.{name}" if key else name
    table = table_at(key)
    known = tuple(table.__struct_encode_fields__)
    if "missing" in what:
        bound = next(bound for bound in fields_of(table) if bound.key == name)
        wanted = f"{origins.element_of(key).rstrip('/')}/{bound.at.path}" if foreign else whole
        keys = "" if foreign else _key_list(known)
        return BadInput(f"{origins.describe(key)}: '{wanted}' is missing", keys, wanted)
    near = difflib.get_close_matches(name, known, 1)
    meant = f"did you mean '{near[0]}'? " if near else ""
    message = f"{origins.describe(whole)}: unknown key {shorten(whole)}"
    return BadInput(message, meant + _key_list(known), whole)


def _key_list(known: tuple[str, ...]) -> str:
    return "the keys here are " + ", ".join(known)


def _possibilities(what: str, key: str) -> str:
    bound = field_at(key)
    choices = _choices(bound)
    if choices and "enum" in what:
        return "possible are " + ", ".join(choices)
    return what.replace("`", "").replace("Expected", "expected")


def _choices(bound: Field | None) -> list[str]:
    """Return the words that are possible for *bound*, as its document writes them."""
    if bound is None:
        return []
    if bound.at.form in WORDS:
        return list(WORDS[bound.at.form])
    return [str(choice) for choice in bound.choices]


def table_at(key: str) -> type[Table]:
    """Return the class of the model at *key*."""
    bound = field_at(key)
    return Machine if bound is None or bound.table is None else bound.table


def field_at(key: str) -> Field | None:
    """Return the field of the model at *key*; None for the whole, and for what is no key."""
    bound: Field | None = None
    table: type[Table] | None = Machine
    for name, _ in STEP.findall(key):
        if name and table is not None:
            bound = next((b for b in fields_of(table) if b.key == name), None)
            table = bound.table if bound else None
    return bound


def look_up(plain: object, key: str) -> object:
    """Return what stands at *key* of plain values."""
    value = plain
    for name, index in STEP.findall(key):
        if name and isinstance(value, dict):
            value = value.get(name)
        elif index and isinstance(value, list):
            value = value[int(index)]
    return value


def remove_key(plain: dict[str, object], key: str) -> bool:
    """Take what stands at *key* out of plain values, or the nearest list entry around it.

    Returns whether there was anything to take out. A key that its table needs takes the table
    with it.
    """
    while key:
        head, name, index = _split_last(key)
        around = look_up(plain, head) if head else plain
        bound = field_at(key)
        if index is not None and isinstance(around, list):
            del around[index]
            return True
        optional = bound is not None and bound.default is not msgspec.NODEFAULT
        if name and isinstance(around, dict) and name in around and optional:
            del around[name]
            return True
        key = head
    return False


def around(key: str) -> str:
    """Return the key of what is around *key*; empty for the whole."""
    return _split_last(key)[0]


def _split_last(key: str) -> tuple[str, str, int | None]:
    """Return *key* without its last step, and that step as a name or as an index."""
    listed = re.fullmatch(r"(.*)\[(\d+)\]", key)
    if listed:
        return listed[1], "", int(listed[2])
    head, _, name = key.rpartition(".")
    return head, name, None


def shorten(value: object) -> str:
    """Return *value* as it may stand in a message."""
    try:
        text = repr(value)
    except ValueError:
        # Python writes no number of more than 4,300 digits.
        return "a number beyond all bounds"
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004 - fits a line
