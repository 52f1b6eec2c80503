# SPDX-License-Identifier: LGPL-2.1-or-later
"""The classes of the model as trees of elements, for the reader and the writer of XML.

Made once for each class, from the annotations of its fields and their places (``binding``).
"""

import types
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, get_args, get_origin

import msgspec
from msgspec import Struct, field

from bpferry.domain.binding import At, Table
from bpferry.domain.later import find_class


class Field(Struct, frozen=True):
    """One field of a class of the model."""

    name: str
    """As an attribute of the class."""
    key: str
    """As a key of the native form."""
    at: At
    scalar: type
    """What one value is: ``str``, ``int``, ``bool``, or ``Table`` for a class of the model."""
    model: type[Table] | str | None
    """The class of one value, if it is one of the model; its name if it is imported later."""
    many: bool
    default: object
    """``msgspec.NODEFAULT`` if the field is required."""
    whole: object = object
    """The type of all of it, as it is annotated."""

    # A class has a hundred fields and a document a few of them, so these are looked up when asked.

    @property
    def choices(self) -> tuple[object, ...]:
        """The possible words, if not every word is possible."""
        return _choices_of(self.whole)

    @property
    def single(self) -> object:
        """The type of one value, as it is annotated."""
        return _single_of(self.whole)

    @property
    def bounds(self) -> tuple[msgspec.Meta, ...]:
        """Bounds of one value beyond its type."""
        return tuple(_bounds_of(self.whole))

    @property
    def table(self) -> type[Table] | None:
        """The class of one value, if it is one of the model."""
        return find_class(self.model) if isinstance(self.model, str) else self.model

    @property
    def type(self) -> object:
        """The type of all of it, for msgspec."""
        if not isinstance(self.model, str):
            return self.whole
        table = find_class(self.model)
        return tuple[table, ...] if self.many else table  # type: ignore[valid-type]  # it is one


class Node(Struct):
    """What a class knows about one element."""

    attributes: dict[str, Field] = field(default_factory=dict)
    children: dict[str, "Node"] = field(default_factory=dict)
    text: Field | None = None
    """The field that is this element's text, or its presence."""
    table: Field | None = None
    """The field whose class describes this element."""
    many: Field | None = None
    """The field of many plain values, one for each such element."""


@cache
def fields_of(table: type[Table]) -> tuple[Field, ...]:
    """Return the fields of *table* that are bound to XML."""
    annotations = _annotations_of(table)
    found = []
    for name, key, default in _declared(table):
        annotation = annotations[name]
        at = table.places.get(name)
        if at is not None:
            scalar, model, many = _kind_of(annotation)
            found.append(
                Field(
                    name=name,
                    key=key,
                    at=at,
                    scalar=scalar,
                    model=model,
                    many=many,
                    default=default,
                    whole=annotation,
                )
            )
    return tuple(found)


def _annotations_of(table: type[Table]) -> Mapping[str, object]:
    """Return the annotations of all fields as they are written, with the names that are in them."""
    found: dict[str, object] = {}
    for one in reversed(table.__mro__):
        found |= vars(one).get("__annotations__", {})
    return found


def _declared(table: type[Table]) -> Iterator[tuple[str, str, object]]:
    """Yield name, key and default of each field.

    ``msgspec.structs.fields`` does the same, and wants to have the class of each name.
    """
    names, defaults = table.__struct_fields__, table.__struct_defaults__
    required = (msgspec.NODEFAULT,) * (len(names) - len(defaults))
    return zip(names, table.__struct_encode_fields__, (*required, *defaults), strict=True)


@cache
def shape_of(table: type[Table]) -> Node:
    """Return the tree of elements of *table*, whose root is the element of the class itself."""
    root = Node()
    for bound in fields_of(table):
        _insert(root, bound, bound.at.path)
        if bound.at.also:
            _insert(root, bound, bound.at.also)
    return root


def _insert(root: Node, bound: Field, path: str) -> None:
    *steps, last = path.split("/")
    node = root
    for step in steps:
        node = node.children.setdefault(step, Node())
    if last.startswith("@"):
        node.attributes[last[1:]] = bound
        node.many = bound if bound.many else node.many
        return
    if last != ".":
        node = node.children.setdefault(last, Node())
    if bound.model is not None:
        node.table = bound
    else:
        node.text = bound
        node.many = bound if bound.many else node.many


def _kind_of(annotation: object) -> tuple[type, type[Table] | str | None, bool]:
    """Return the type of one value, its class of the model if it has one, and if there are many."""
    inner = _strip(annotation)
    if get_origin(inner) is tuple:
        scalar, model, _ = _kind_of(get_args(inner)[0])
        return scalar, model, True
    if isinstance(inner, str):
        return Table, inner, False
    if isinstance(inner, type) and issubclass(inner, Table):
        return Table, inner, False
    if get_origin(inner) is typing.Literal:
        return type(get_args(inner)[0]), None, False
    if inner in (int, bool):
        return typing.cast("type", inner), None, False
    return str, None, False


def _choices_of(annotation: object) -> tuple[object, ...]:
    """Return the values of a Literal but for None, wherever it is in *annotation*."""
    if get_origin(annotation) is typing.Literal:
        return tuple(choice for choice in get_args(annotation) if choice is not None)
    for arg in get_args(annotation):
        found = _choices_of(arg)
        if found:
            return found
    return ()


def _single_of(annotation: object) -> object:
    """Return the type of one entry of a list, and *annotation* itself if it is not a list."""
    bare = annotation
    while get_origin(bare) is Annotated:
        bare = get_args(bare)[0]
    return get_args(bare)[0] if get_origin(bare) is tuple else annotation


def _bounds_of(annotation: object) -> Iterator[msgspec.Meta]:
    """Yield the bounds in *annotation*, wherever they are."""
    for part in get_args(annotation):
        if isinstance(part, msgspec.Meta):
            yield part
        else:
            yield from _bounds_of(part)


def _strip(annotation: object) -> object:
    """Return *annotation* without its bounds, and without None as a possibility."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if isinstance(annotation, str):
        return annotation.removesuffix(" | None")
    if get_origin(annotation) in (typing.Union, types.UnionType):
        (kind,) = (arg for arg in get_args(annotation) if arg is not types.NoneType)
        return _strip(kind)
    return annotation
