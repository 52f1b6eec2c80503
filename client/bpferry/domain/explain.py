# SPDX-License-Identifier: LGPL-2.1-or-later
"""Say what is wrong with a native description, where, and what is possible there.

msgspec says what it expected and at which key. The place in the document, the value that was
found, and the keys and words that are possible are added here.
"""

import datetime as dt
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from bpferry.domain.binding import Form, Table
from bpferry.domain.bounds import describe_possible, is_possible, words_of
from bpferry.domain.mistakes import Mistake, first_mistake, mistakes_in
from bpferry.domain.model.cards import Card
from bpferry.domain.model.machine import Machine
from bpferry.domain.origins import STEP, Origins
from bpferry.domain.shape import Field, fields_of
from bpferry.domain.shorthand import explain_missing_type
from bpferry.domain.shown import as_written, shorten, shown
from bpferry.domain.suggestions import find_alike
from bpferry.domain.unknown_keys import advise
from bpferry.errors import BadInput

INDEX: Final = re.compile(r"\[\d+\]")

NEEDED: Final = {"name": '"web"', "memory": '"1 GiB"'}
"""Values of the keys that every description has."""

TRUTH: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
"""What people write for a truth value."""

SNAPSHOT: Final = (
    "leave it out: it is the name of a snapshot on a Ceph cluster (RBD); for a throw-away image, "
    "create one before each run: qemu-img create -f qcow2 -F FORMAT -b FILE SCRATCH.qcow2"
)
"""What to do in place of QEMU's snapshot=on."""


def explain_all(
    error: msgspec.ValidationError, values: Mapping[str, object], origins: Origins
) -> list[BadInput]:
    """Return all that is wrong with *values*, of which msgspec's *error* is the first."""
    found = list(mistakes_in(values, Machine)) or [first_mistake(error)]
    return [explain(mistake, values, origins) for mistake in found]


def explain(mistake: Mistake, values: Mapping[str, object], origins: Origins) -> BadInput:
    """Return *mistake*, which is in *values*, in our words."""
    key = mistake.key
    if mistake.missing is not None:
        return _explain_missing(mistake.missing, key, values, origins)
    if mistake.unknown is not None:
        return _explain_unknown(mistake.unknown, key, origins)
    found = look_up(values, key)
    bound = field_at(key)
    message = (
        f"{origins.describe_line(key)}: '{key}' is {shown(found, bound)}: "
        f"{_possibilities(mistake.what, key)}"
    )
    hint = "" if bound is None else _value_hint(found, bound, key)
    return BadInput(message, hint, origins.element_of(key))


def _explain_missing(
    name: str, key: str, values: Mapping[str, object], origins: Origins
) -> BadInput:
    whole, around = _join(key, name), look_up(values, key)
    if table_at(key) is Card and name == "type" and isinstance(around, dict):
        sentence, hint = explain_missing_type(around)
        return BadInput(f"{origins.describe(key)}: {sentence}", hint, whole)
    bound = field_at(whole)
    return BadInput(
        f"{origins.describe_line(key)}: '{whole}' is missing", _example(name, key, bound), whole
    )


def _example(name: str, key: str, bound: Field | None) -> str:
    """Return how to write the key *name* that is missing in the table *key*."""
    if bound is None or bound.table is not None:
        return ""
    if bound.choices:
        return describe_possible(bound)
    form = NEEDED.get(name) or ('"..."' if bound.scalar is str else "1")
    where = "below the header of its table" if key else "above the first line with a [table]"
    return f"write it {where}, as in {name} = {form}"


def _explain_unknown(name: str, key: str, origins: Origins) -> BadInput:
    whole = _join(key, name)
    message = f"{origins.describe_line(whole)}: unknown key {shorten(whole)}"
    return BadInput(message, advise(name, key, table_at(key)), whole)


def _value_hint(found: object, bound: Field, key: str) -> str:
    """Return how *found* should be written where *bound* is, if it is clear what was meant."""
    name = key.rpartition(".")[2]
    if bound.table is not None:
        return _table_hint(found, bound, bound.table, INDEX.sub("", key))
    if bound.at.form is Form.SECRET:
        return ""
    if name == "snapshot" and isinstance(found, bool):
        return SNAPSHOT
    if bound.many and not name.endswith("]"):
        return f"write it in brackets, as in {name} = [...]"
    meant = _meant(found, bound)
    if meant is not None:
        how = "in quotes" if isinstance(meant, str) else "without quotes"
        written = f'"{meant}"' if isinstance(meant, str) else as_written(meant)
        return f"write it {how}: {written if name.endswith(']') else f'{name} = {written}'}"
    near = find_alike(found, words_of(bound)) if isinstance(found, str) else ()
    return f"did you mean '{near[0]}'?" if near else ""


def _table_hint(found: object, bound: Field, table: type[Table], name: str) -> str:
    """Return how to write the table *name*, in place of which *found* is."""
    header = f"[[{name}]]" if bound.many else f"[{name}]"
    if isinstance(found, dict):
        return f"write {header}, with two brackets, above each entry of the list"
    if isinstance(found, list):
        return f"write {header}, with one bracket on each side: there can be only one"
    lines = f"write {header} on a line of its own, and its keys on the lines below"
    for inner in fields_of(table):
        near = find_alike(found, words_of(inner)) if isinstance(found, str) else ()
        if near:
            return f'{lines}, such as {inner.key} = "{near[0]}"'
    return lines


def _meant(found: object, bound: Field) -> object:
    """Return the value that *found*, which has the wrong type, means; None if that is unclear."""
    meant: object = None
    if isinstance(found, str) and bound.scalar is bool:
        meant = TRUTH.get(found.lower())
    elif isinstance(found, str) and bound.scalar is int:
        meant = int(found) if re.fullmatch(r"-?[0-9]{1,18}", found) else None
    elif bound.scalar is str and isinstance(found, bool | int | float | dt.date):
        meant = as_written(found)
    return meant if meant is not None and is_possible(bound, meant) else None


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
    """Return the field of the model at *key*; None for the whole, and for what is not a key."""
    bound: Field | None = None
    table: type[Table] | None = Machine
    for name, _ in re.findall(STEP, key):
        if name and table is not None:
            bound = next((b for b in fields_of(table) if b.key == name), None)
            table = bound.table if bound else None
    return bound


def look_up(plain: object, key: str) -> object:
    """Return what is at *key* of plain values."""
    value = plain
    for name, index in re.findall(STEP, key):
        if name and isinstance(value, dict):
            value = value.get(name)
        elif index and isinstance(value, list):
            value = value[int(index)]
    return value
