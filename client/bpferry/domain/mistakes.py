# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every mistake in a native description, and not only the first one that msgspec meets.

Values are converted one by one, so that each complaint is about one key. This happens only when the
conversion of the whole has failed.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from bpferry.domain.binding import Table
from bpferry.domain.shape import Field, fields_of


class Mistake(NamedTuple):
    """What is wrong at one key."""

    key: str
    what: str = ""
    """About the value at ``key``, in msgspec's words; empty if it is about one of the next two."""
    unknown: str | None = None
    """A key below ``key`` that there is not."""
    missing: str | None = None
    """A key below ``key`` that there has to be."""


def first_mistake(error: msgspec.ValidationError) -> Mistake:
    """Return what msgspec met first, as if it were about a value."""
    what, _, where = str(error).partition(" - at `$")
    return Mistake(where.rstrip("`").lstrip("."), what)


def mistakes_in(
    values: Mapping[str, object], table: type[Table], key: str = ""
) -> Iterator[Mistake]:
    """Yield what is wrong with *values*, which were found at *key*.

    What is missing in an entry of a list, such as a card's type, may follow from another mistake in
    it, and is told only if there is none.
    """
    found = [*_unknown(values, table, key), *_of_values(values, table, key)]
    yield from found
    if not found or not key.endswith("]"):
        yield from _missing(values, table, key)


def _unknown(values: Mapping[str, object], table: type[Table], key: str) -> Iterator[Mistake]:
    known = {bound.key for bound in fields_of(table)}
    for name in values:
        if name not in known:
            yield Mistake(key, unknown=name)


def _missing(values: Mapping[str, object], table: type[Table], key: str) -> Iterator[Mistake]:
    for bound in fields_of(table):
        if bound.key not in values and bound.default is msgspec.NODEFAULT:
            yield Mistake(key, missing=bound.key)


def _of_values(values: Mapping[str, object], table: type[Table], key: str) -> Iterator[Mistake]:
    for bound in fields_of(table):
        if bound.key in values:
            below = f"{key}.{bound.key}" if key else bound.key
            yield from _of_field(bound, values[bound.key], below)


def _of_field(bound: Field, value: object, key: str) -> Iterator[Mistake]:
    if not bound.many:
        yield from _of_value(bound, value, key)
    elif isinstance(value, list):
        for number, single in enumerate(value):
            yield from _of_value(bound, single, f"{key}[{number}]")
    else:
        yield Mistake(key, "Expected `array`")


def _of_value(bound: Field, value: object, key: str) -> Iterator[Mistake]:
    if bound.table is not None and isinstance(value, dict):
        yield from mistakes_in(value, bound.table, key)
        return
    try:
        msgspec.convert(value, bound.table or bound.single)
    except msgspec.ValidationError as error:
        yield Mistake(key, first_mistake(error).what)
