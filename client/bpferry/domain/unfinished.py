# SPDX-License-Identifier: LGPL-2.1-or-later
"""A table of the model while its element is read."""

from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from bpferry.domain.binding import Table
from bpferry.domain.shape import Field, fields_of
from bpferry.errors import Unsupported

T = TypeVar("T", bound=Table)


@dataclass(slots=True)
class Unfinished:
    """The values of one table while it is read."""

    key: str
    is_entry: bool
    """It is one of a list, or the whole; both need what libvirt's schema demands of them."""
    values: dict[str, object] = field(default_factory=dict)
    is_lost: bool = False
    """The table cannot be without something that is refused or wrong."""
    lost_by: Unsupported | None = None
    """What that is, if it is refused."""

    def key_of(self, bound: Field) -> str:
        """Return the key of the next value of *bound*."""
        prefix = f"{self.key}." if self.key else ""
        index = f"[{len(self.list_of(bound))}]" if bound.many else ""
        return f"{prefix}{bound.key}{index}"

    def list_of(self, bound: Field) -> list[object]:
        """Return the values that *bound* has so far."""
        have = self.values.setdefault(bound.name, [])
        assert isinstance(have, list)  # noqa: S101 - it is one of many
        return have

    def put(self, bound: Field, value: object) -> None:
        """Add *value*."""
        if bound.many:
            self.list_of(bound).append(value)
        else:
            self.values[bound.name] = value

    def lose(self, bound: Field, refusal: Unsupported | None) -> None:
        """Note that a value of *bound* is refused or wrong, if the table cannot be without it."""
        needed = bound.default is msgspec.NODEFAULT
        if needed or (self.is_entry and bound.at.always and bound.at.path.startswith("@")):
            self.is_lost = True
            self.lost_by = self.lost_by or refusal

    def find_missing(self, table: type[Table]) -> Field | None:
        """Return a field without which there is no *table*, and which its element does not have."""
        return next(
            (
                bound
                for bound in fields_of(table)
                if bound.default is msgspec.NODEFAULT
                and bound.at.absent is msgspec.UNSET
                and bound.name not in self.values
            ),
            None,
        )

    def build(self, table: type[T]) -> T:
        """Return the table, with what is meant where nothing is said."""
        values = dict(self.values)
        for bound in fields_of(table):
            if bound.many and bound.name in values:
                values[bound.name] = tuple(self.list_of(bound))
            elif bound.at.absent is not msgspec.UNSET:
                values.setdefault(bound.name, bound.at.absent)
        return table(**values)
