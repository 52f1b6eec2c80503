# SPDX-License-Identifier: LGPL-2.1-or-later
"""Frozen values with named fields, whose classes take little time to make.

They are declared and used as those of ``typing.NamedTuple``. For each of its classes Python
compiles a constructor, which takes half a million instructions (valgrind; Python 3.11). Who starts
a VM makes thirty such classes first, and a helper more.
"""

from operator import itemgetter
from typing import Any, ClassVar, Self, dataclass_transform


@dataclass_transform(frozen_default=True)
class Frozen(tuple[Any, ...]):
    """A tuple whose fields have the names and defaults of the annotations in its class."""

    __slots__ = ()

    _fields: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, object]] = {}

    def __init_subclass__(cls) -> None:
        """Give each field its property, in place of its default."""
        cls._fields = tuple(cls.__annotations__)
        cls.__match_args__ = cls._fields  # type: ignore[attr-defined,misc]  # a checker makes its own
        cls._defaults = {name: vars(cls)[name] for name in cls._fields if name in vars(cls)}
        for place, name in enumerate(cls._fields):
            setattr(cls, name, property(itemgetter(place)))

    def __new__(cls, *values: object, **named: object) -> Self:
        """Take the fields by place or by name.

        Raises:
            TypeError: a field is missing or given twice, or there is no such field.
        """
        placed = dict(zip(cls._fields, values, strict=False))
        found = cls._defaults | placed | named
        if found.keys() != set(cls._fields) or len(placed) < len(values) or placed.keys() & named:
            raise TypeError(f"{cls.__name__} takes each of {cls._fields} once")
        return super().__new__(cls, [found[name] for name in cls._fields])

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse it, for any name.

        Raises:
            AttributeError: always.
        """
        raise AttributeError(f"a {type(self).__name__} does not change: no '{name}' is set")

    def __getnewargs__(self) -> tuple[Any, ...]:
        """Return what a copy is made of; a tuple's own would be one value, the tuple."""
        return tuple(self)

    def _replace(self, **named: object) -> Self:
        """Return the same with other values for the fields *named*."""
        return type(self)(**{**self._asdict(), **named})

    def _asdict(self) -> dict[str, Any]:
        """Return the values by the names of their fields."""
        return dict(zip(self._fields, self, strict=True))

    def __repr__(self) -> str:
        """Return what makes the same value."""
        fields = ", ".join(f"{name}={value!r}" for name, value in self._asdict().items())
        return f"{type(self).__name__}({fields})"
