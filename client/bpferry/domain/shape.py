# SPDX-License-Identifier: LGPL-2.1-or-later
"""The classes of the model as trees of elements, for the reader and the writer of XML.

Made once for each class, from the annotations of its fields (``binding``).
"""

import types
import typing
from collections.abc import Iterator
from functools import cache
from typing import Annotated, get_args, get_origin

import msgspec
from msgspec import Struct, field

from bpferry.domain.binding import At, Table


class Field(Struct, frozen=True):
    """One field of a class of the model."""

    name: str
    """As an attribute of the class."""
    key: str
    """As a key of the native form."""
    at: At
    scalar: type
    """What one value is: ``str``, ``int``, ``bool``, or ``Table`` for a class of the model."""
    table: type[Table] | None
    many: bool
    default: object
    """``msgspec.NODEFAULT`` if the field is required."""
    choices: tuple[object, ...] = ()
    """The possible words, if not every word is possible."""
    single: object = object
    """The type of one value, as it is annotated."""
    bounds: tuple[msgspec.Meta, ...] = ()
    """Bounds of one value beyond its type."""


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
    hints = typing.get_type_hints(table, include_extras=True)
    found = []
    for described in msgspec.structs.fields(table):
        annotation = hints[described.name]
        at = _binding_of(annotation)
        if at is not None:
            scalar, nested, many = _kind_of(annotation)
            found.append(
                Field(
                    name=described.name,
                    key=described.encode_name,
                    at=at,
                    scalar=scalar,
                    table=nested,
                    many=many,
                    default=described.default,
                    choices=_choices_of(annotation),
                    single=_single_of(annotation),
                    bounds=tuple(_bounds_of(annotation)),
                )
            )
    return tuple(found)


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
    if bound.table is not None:
        node.table = bound
    else:
        node.text = bound
        node.many = bound if bound.many else node.many


def _binding_of(annotation: object) -> At | None:
    if get_origin(annotation) is Annotated:
        return next((extra for extra in get_args(annotation)[1:] if isinstance(extra, At)), None)
    return None


def _kind_of(annotation: object) -> tuple[type, type[Table] | None, bool]:
    """Return the type of one value, its class of the model if it has one, and if there are many."""
    inner = _strip(annotation)
    if get_origin(inner) is tuple:
        scalar, table, _ = _kind_of(get_args(inner)[0])
        return scalar, table, True
    if isinstance(inner, type) and issubclass(inner, Table):
        return Table, inner, False
    if get_origin(inner) is typing.Literal:
        return type(get_args(inner)[0]), None, False
    if inner in (int, bool):
        return typing.cast("type", inner), None, False
    return str, None, False


def _choices_of(annotation: object) -> tuple[object, ...]:
    """Return the values of a Literal, wherever it is in *annotation*."""
    if get_origin(annotation) is typing.Literal:
        return get_args(annotation)
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
    if get_origin(annotation) in (typing.Union, types.UnionType):
        (kind,) = (arg for arg in get_args(annotation) if arg is not types.NoneType)
        return _strip(kind)
    return annotation
