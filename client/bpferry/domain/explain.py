# SPDX-License-Identifier: LGPL-2.1-or-later
"""Say what is wrong with a native description, where, and what is possible there.

msgspec says what it expected and at which key. The place in the document, the value that was
found, and the keys and words that are possible are added here.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from bpferry.domain.binding import Form, Table
from bpferry.domain.bounds import describe_possible
from bpferry.domain.model.machine import Machine
from bpferry.domain.origins import Origins
from bpferry.domain.shape import Field, fields_of
from bpferry.errors import BadInput

STEP: Final = re.compile(r"\.?([A-Za-z0-9_-]+)|\[(\d+)\]")
"""One step on the way to a value, such as ``.tap`` or ``[0]``."""

FEW: Final = 12
"""As many keys as a hint may list."""

MANUAL: Final = (
    "docs/documents.md has the keys that are used most, and 'bpferry convert' shows those of "
    "anything that you have as XML"
)


def explain(
    error: msgspec.ValidationError, values: Mapping[str, object], origins: Origins
) -> BadInput:
    """Return msgspec's *error* about *values* in our words."""
    what, _, where = str(error).partition(" - at `$")
    key = where.rstrip("`").lstrip(".")
    quoted = re.search(r"field `([^`]*)`", what)
    if quoted and "missing" in what:
        return _explain_missing(quoted[1], key, origins)
    if quoted:
        return _explain_unknown(quoted[1], key, origins)
    found = shown(look_up(values, key), field_at(key))
    message = f"{origins.describe(key)} is {found}: {_possibilities(what, key)}"
    return BadInput(message, element=origins.element_of(key))


def _explain_missing(name: str, key: str, origins: Origins) -> BadInput:
    whole = _join(key, name)
    bound = field_at(whole)
    hint = describe_possible(bound) if bound and bound.choices else ""
    return BadInput(f"{origins.describe(key)}: '{whole}' is missing", hint, whole)


def _explain_unknown(name: str, key: str, origins: Origins) -> BadInput:
    whole = _join(key, name)
    message = f"{origins.describe(whole)}: unknown key {shorten(whole)}"
    return BadInput(message, _other_keys(name, key), whole)


def _other_keys(name: str, key: str) -> str:
    """Return which keys there are in place of *name*: those that are near, or all if they are few.

    A key may also be one of the tables below.
    """
    here = fields_of(table_at(key))
    known = [bound.key for bound in here]
    near = [f"'{one}'" for one in difflib.get_close_matches(name, known, 3)]
    if near:
        return f"did you mean {_any_of(near)}?"
    inside = [f"'{bound.key}'" for bound in here if bound.table and name in _keys_of(bound.table)]
    if inside:
        return f"it is a key of {_any_of(inside[:3])}"
    return "the keys here are " + ", ".join(known) if len(known) <= FEW else MANUAL


def _any_of(words: list[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def _keys_of(table: type[Table]) -> tuple[str, ...]:
    return tuple(bound.key for bound in fields_of(table))


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _possibilities(what: str, key: str) -> str:
    bound = field_at(key)
    if bound is None:
        return what.replace("`", "").replace("Expected", "expected")
    if bound.many and not key.endswith("]"):
        return f"expected a list of tables, as [[{key}]]" if bound.table else "expected a list"
    return describe_possible(bound)


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


def shown(value: object, bound: Field | None) -> str:
    """Return *value*, which was found where *bound* is, as it may stand in a message.

    What nobody else may see does not, and what is in a table or in a list may be that.
    """
    if bound is not None and bound.at.form is Form.SECRET:
        return "something that is not shown here"
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    return shorten(value)


def shorten(value: object) -> str:
    """Return *value* as it may stand in a message."""
    try:
        text = repr(value)
    except ValueError:
        # Python writes no number of more than 4,300 digits.
        return "a number beyond all bounds"
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004 - fits a line
