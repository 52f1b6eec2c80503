# SPDX-License-Identifier: LGPL-2.1-or-later
"""What to write in place of a key of the native form that there is not.

A hint that misleads is worse than none. So a key is named only if it is spelled almost the same, if
it is known to mean the same (``suggestions``), or if libvirt has an element or attribute of this
name for it. Otherwise the possible keys are listed, or the page that has them is named.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Final

from bpferry.domain.binding import Table
from bpferry.domain.model.base import VirtioDevice
from bpferry.domain.model.machine import Machine
from bpferry.domain.shape import Field, fields_of
from bpferry.domain.shown import any_of
from bpferry.domain.suggestions import find_bound, find_bound_below, find_near, find_same

FEW: Final = 4
"""The most keys that may be meant, and the most tables that a key is looked for in."""

MANY: Final = 24
"""The most keys that a hint lists."""

INDEX: Final = re.compile(r"\[\d+\]")

MANUAL: Final = (
    "docs/documents.md, 'The native form', has the keys that are used most{}; 'bpferry convert' "
    "shows those of anything that you have as XML"
)

GENERIC: Final = ("name", "type", "model", "mode", "target", "id", "value")
"""Keys of so many kinds of things that a table below is hardly meant."""

NOT_HERE: Final = {
    "disks.size": (
        "an image has its size in itself: make one with 'qemu-img create -f qcow2 FILE 10G', and "
        'name it with file = "FILE"'
    ),
}
"""What people look for and no table has, and what to do instead."""


def advise(name: str, key: str, table: type[Table]) -> str:
    """Return what to write in place of *name* in *table*, which is at *key*."""
    where = INDEX.sub("", key)
    fields = fields_of(table)
    here = {bound.key: bound for bound in fields}
    return (
        NOT_HERE.get(f"{where}.{name}")
        or _meant(find_bound(name, fields), name, where)
        or _meant([here[one] for one in find_near(name, list(here))], name, where)
        or _in_another_table(name, where, fields)
        or _meant(find_bound_below(name, fields), name, where)
        or _list(where, table)
    )


def _meant(found: Sequence[Field], name: str, where: str) -> str:
    if 0 < len(found) <= FEW:
        return f"did you mean {any_of([_as_written(bound, where) for bound in found])}?"
    if 0 < len(found) <= MANY:
        return f"what libvirt has in <{name}> is here in {any_of([one.key for one in found])}"
    return ""


def _in_another_table(name: str, where: str, fields: Sequence[Field]) -> str:
    """Return which table *name* belongs to: what follows a table's header is part of it."""
    if where and name in _keys_of(Machine):
        return f"write '{name}' above the first line with a [table]: it is about the VM as a whole"
    below = [bound for bound in fields if bound.table and bound.key != "address"]
    inside = [bound for bound in below if bound.table and name in _keys_of(bound.table)]
    if inside and name not in (GENERIC if where else _common()):
        return f"it is a key of {any_of([_as_written(one, where) for one in inside[:FEW]])}"
    for bound in below if where else ():
        same = find_same(name, _keys_of(bound.table)) if bound.table else ()
        if same:
            return f"did you mean '{same[0]}' in {_as_written(bound, where)}?"
    return ""


def _list(where: str, table: type[Table]) -> str:
    """Return all keys of *table* that not every device has, or where they are if they are many."""
    keys, of_all = _keys_of(table), set(_keys_of(VirtioDevice))
    own = [key for key in keys if key not in of_all]
    if len(own) <= MANY:
        return f"the keys here are {', '.join(own or keys)}"
    return MANUAL.format(f" in [[{where}]]" if where else "")


@cache
def _common() -> frozenset[str]:
    """Return the keys that more than a few tables have: they do not tell which one is meant."""
    tables: set[type[Table]] = set()
    waiting: set[type[Table]] = {Machine}
    while waiting:
        table = waiting.pop()
        tables.add(table)
        waiting |= {bound.table for bound in fields_of(table) if bound.table} - tables
    counts = Counter(key for table in tables for key in _keys_of(table))
    return frozenset(key for key, count in counts.items() if count > FEW)


def _keys_of(table: type[Table]) -> tuple[str, ...]:
    return tuple(bound.key for bound in fields_of(table))


def _as_written(bound: Field, where: str) -> str:
    """Return the key of *bound* in the table *where*, with a header's brackets if it is a table."""
    if bound.table is None:
        return f"'{bound.key}'"
    header = f"{where}.{bound.key}" if where else bound.key
    return f"[[{header}]]" if bound.many else f"[{header}]"
