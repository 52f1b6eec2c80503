# SPDX-License-Identifier: LGPL-2.1-or-later
"""A table of the model while its element is read."""

from collections import Counter
from typing import TypeVar

import msgspec
from msgspec import Struct, field

from bpferry.domain.binding import Table
from bpferry.domain.remaining import Remaining
from bpferry.domain.shape import Field, fields_of
from bpferry.errors import Unsupported

T = TypeVar("T", bound=Table)


class Unfinished(Struct):
    """The values of one table while it is read."""

    key: str
    is_entry: bool
    """Whether it is one of a list, or the whole; both need what libvirt's schema requires."""
    values: dict[str, object] = field(default_factory=dict)
    """For a list, pairs of each entry's number and value."""
    totals: Counter[str] = field(default_factory=Counter)
    """How many entries each list has in the document, including those that are lost."""
    is_lost: bool = False
    """Whether something is refused or wrong that the table cannot be without."""
    lost_by: Unsupported | None = None
    """That refusal; None if what is wrong came first."""
    lost: set[str] = field(default_factory=set)
    """The fields with a value that is refused or wrong."""

    def key_of(self, bound: Field) -> str:
        """Return the key of the next value of *bound*."""
        prefix = f"{self.key}." if self.key else ""
        index = f"[{self.totals[bound.name]}]" if bound.many else ""
        return f"{prefix}{bound.key}{index}"

    def _entries_of(self, bound: Field) -> list[tuple[int, object]]:
        have = self.values.setdefault(bound.name, [])
        assert isinstance(have, list)  # noqa: S101 - it is one of many
        return have

    def put(self, bound: Field, value: object) -> None:
        """Add *value*."""
        if bound.many:
            self._entries_of(bound).append((self.totals[bound.name], value))
            self.totals[bound.name] += 1
        else:
            self.values[bound.name] = value

    def lose(self, bound: Field, refusal: Unsupported | None) -> None:
        """Note that a value of *bound* is refused or wrong: the table may be lost without it.

        Those after it in a list keep the numbers that they have in the document.
        """
        self.totals[bound.name] += 1
        needed = bound.default is msgspec.NODEFAULT
        if needed or (self.is_entry and bound.at.always and bound.at.path.startswith("@")):
            if not self.is_lost:
                self.lost_by = refusal
            self.is_lost = True
        self.lost.add(bound.name)

    def find_missing(self, table: type[Table]) -> list[Field]:
        """Return the fields that *table* requires and its element does not have."""
        return [
            bound
            for bound in fields_of(table)
            if bound.default is msgspec.NODEFAULT
            and bound.at.absent is msgspec.UNSET
            and bound.name not in self.values
            and bound.name not in self.lost
        ]

    def build(self, table: type[T]) -> T:
        """Return the table, with the defaults of libvirt's documents."""
        values = dict(self.values)
        for bound in fields_of(table):
            if bound.many and bound.name in values:
                values[bound.name] = self._list(bound)
            elif bound.at.absent is not msgspec.UNSET:
                values.setdefault(bound.name, bound.at.absent)
        return table(**values)

    def _list(self, bound: Field) -> tuple[object, ...]:
        entries, total = self._entries_of(bound), self.totals[bound.name]
        if len(entries) == total:
            return tuple(value for _, value in entries)
        return Remaining(entries, total)
