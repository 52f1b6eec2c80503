# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is right in a description that has mistakes, so that the rest can be looked at too.

Nothing is started from it: it only shows what else a user has to change or install.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from bpferry.domain.binding import Table
from bpferry.domain.checks import wrong_keys
from bpferry.domain.leaving_out import leave_out
from bpferry.domain.model.machine import Machine
from bpferry.domain.remaining import Remaining
from bpferry.domain.shape import Field, fields_of

T = TypeVar("T", bound=Table)

STAND_INS: Final[Mapping[str, object]] = {"name": ".unnamed", "memory": 1024 * 1024}
"""What no VM can do without; no VM has this name, and any host has this much memory."""

LOST: Final = object()
"""In place of a value that is wrong."""


def salvage(values: Mapping[str, object]) -> Machine | None:
    """Return the VM that the native description *values* describes without what is wrong."""
    machine = _table({**STAND_INS, **values}, Machine)
    if machine is None:
        machine = _table({**values, **STAND_INS}, Machine)
    return None if machine is None else without_wrong_values(machine, in_xml=False)


def without_wrong_values(machine: Machine, *, in_xml: bool) -> Machine | None:
    """Return *machine* without values of the right type that are wrong; None if it needs them."""
    for key in wrong_keys(machine):
        if key in STAND_INS:
            machine = msgspec.structs.replace(machine, **{key: STAND_INS[key]})
            continue
        left = leave_out(machine, key, in_xml=in_xml)
        if left is None:
            return None
        machine = left.value
    return machine


def _table(values: Mapping[str, object], table: type[T]) -> T | None:
    """Return the *table* of what is right in *values*; None if it cannot be without the rest."""
    kept: dict[str, Any] = {}
    for bound in fields_of(table):
        found = _field(values[bound.key], bound) if bound.key in values else LOST
        if found is not LOST:
            kept[bound.name] = found
        elif bound.default is msgspec.NODEFAULT:
            return None
    return table(**kept)


def _field(value: object, bound: Field) -> object:
    if not bound.many:
        return _single(value, bound)
    if not isinstance(value, list):
        return LOST
    entries = [(number, _single(one, bound)) for number, one in enumerate(value)]
    kept = [(number, one) for number, one in entries if one is not LOST]
    return Remaining(kept, len(entries))


def _single(value: object, bound: Field) -> object:
    if bound.table is not None and isinstance(value, dict):
        found = _table(value, bound.table)
        return LOST if found is None else found
    try:
        return msgspec.convert(value, bound.table or bound.single)
    except msgspec.ValidationError:
        return LOST
