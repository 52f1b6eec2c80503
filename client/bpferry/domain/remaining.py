# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lists of a document from which entries were left out.

What is left keeps the number that it has in the document, so that its key, its id, and the address
that is made from its position do not change.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")


class Remaining(tuple[T_co, ...]):  # noqa: SLOT001 - a tuple with slots can have no attribute
    """The entries that are left of a list, which know their numbers in the original list.

    Attributes:
        numbers: of each entry, in order, from 0.
        total: how many entries the whole list had.
    """

    numbers: tuple[int, ...]
    total: int

    def __new__(cls, entries: Iterable[tuple[int, T_co]], total: int) -> "Remaining[T_co]":
        """Return what is left: pairs of number and entry."""
        pairs = tuple(entries)
        made = super().__new__(cls, (value for _, value in pairs))
        made.numbers = tuple(number for number, _ in pairs)
        made.total = total
        return made


def numbered(values: Sequence[T]) -> Iterator[tuple[int, T]]:
    """Yield pairs of each value's number in the document and the value."""
    numbers = values.numbers if isinstance(values, Remaining) else range(len(values))
    return zip(numbers, values, strict=True)


def total_of(values: Sequence[object]) -> int:
    """Return how many values there were before any was left out."""
    return values.total if isinstance(values, Remaining) else len(values)


def mapped(values: Sequence[T], change: Callable[[int, T], U]) -> tuple[U, ...]:
    """Return what *change* makes of each number and value, under the same numbers."""
    pairs = ((number, change(number, value)) for number, value in numbered(values))
    return Remaining(pairs, total_of(values))


def replaced(values: Sequence[object], others: Sequence[T]) -> tuple[T, ...]:
    """Return *others*, one in place of each of *values*, under the same numbers."""
    numbers = (number for number, _ in numbered(values))
    return Remaining(zip(numbers, others, strict=True), total_of(values))


def without_entry(values: Sequence[T], number: int) -> tuple[T, ...]:
    """Return *values* without the entry *number*."""
    return Remaining((pair for pair in numbered(values) if pair[0] != number), total_of(values))


def extended(values: Sequence[T], more: Sequence[T]) -> tuple[T, ...]:
    """Return *values* with *more* after them, which get numbers beyond those of the document."""
    total = total_of(values)
    return Remaining((*numbered(values), *enumerate(more, total)), total + len(more))
