# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM, or a part of it, without something that was refused.

In its place comes the default of its document, which differs between the two forms. What cannot
exist without it is left out with it.
"""

import re
from typing import Generic, TypeVar, cast

import msgspec
from msgspec import Struct

from bpferry.domain.binding import Form, Table
from bpferry.domain.origins import STEP
from bpferry.domain.remaining import mapped, numbered, without_entry
from bpferry.domain.shape import Field, fields_of

T = TypeVar("T", bound=Table)

Step = tuple[str, int | None]
"""A field, and the number of an entry of it."""


class Left(Struct, Generic[T], frozen=True):
    """What is left."""

    value: T
    gone: str
    """The key of what was left out; empty if that had been left out before."""


class _AlreadyGoneError(Exception):
    """What is to be left out was in an entry that is already gone."""


def leave_out(table: T, key: str, *, in_xml: bool) -> Left[T] | None:
    """Return *table* without what is at *key*; None if it cannot be without that.

    If that has its default value already, or its table needs it, the nearest enclosing part whose
    absence makes a difference is left out.
    """
    steps = _steps(key)
    for length in range(len(steps), 0, -1):
        try:
            left = _replaced(table, steps[:length], in_xml=in_xml)
        except _AlreadyGoneError:
            return Left(table, "")
        if left is not None and left != table:
            return Left(left, _join(steps[:length]))
    return None


def _steps(key: str) -> list[Step]:
    steps: list[Step] = []
    for name, number in re.findall(STEP, key):
        if name:
            steps.append((name, None))
        elif steps:
            steps[-1] = (steps[-1][0], int(number))
    return steps


def _join(steps: list[Step]) -> str:
    return ".".join(name if number is None else f"{name}[{number}]" for name, number in steps)


def _replaced(table: T, steps: list[Step], *, in_xml: bool) -> T | None:
    """Return *table* with the default in place of what *steps* lead to; None if there is none."""
    (name, number), *rest = steps
    bound = next((field for field in fields_of(type(table)) if field.key == name), None)
    if bound is None:
        return None
    value = cast("object", getattr(table, bound.name))
    new: object
    if number is not None:
        new = _without_entry(cast("tuple[object, ...]", value), number, rest, in_xml=in_xml)
    elif rest:
        new = _replaced(value, rest, in_xml=in_xml) if isinstance(value, Table) else None
    else:
        return _with_usual(table, bound, in_xml=in_xml)
    return None if new is None else msgspec.structs.replace(table, **{bound.name: new})


def _without_entry(
    values: tuple[object, ...], number: int, rest: list[Step], *, in_xml: bool
) -> tuple[object, ...] | None:
    entry = dict(numbered(values)).get(number)
    if entry is None:
        raise _AlreadyGoneError
    if not rest:
        return without_entry(values, number)
    less = _replaced(entry, rest, in_xml=in_xml) if isinstance(entry, Table) else None
    if less is None:
        return None
    return mapped(values, lambda place, one: less if place == number else one)


def _with_usual(table: T, bound: Field, *, in_xml: bool) -> T | None:
    """Return *table* with the default that its document has for *bound*.

    An impossible processor is replaced by one with everything that is possible here, in both
    forms: a guest that wants a certain one does not run on less. libvirt's schema requires some
    attributes, such as a card's type; these have no default. What a password was to protect is
    not kept without it.
    """
    if bound.default is msgspec.NODEFAULT or bound.at.form is Form.SECRET:
        return None
    if in_xml and bound.at.always and bound.at.path.startswith("@"):
        return None
    usual = bound.default
    if in_xml and bound.at.absent is not msgspec.UNSET:
        usual = bound.at.absent
    if bound.at.instead is not msgspec.UNSET:
        usual = bound.at.instead
    return msgspec.structs.replace(table, **{bound.name: usual})
