# SPDX-License-Identifier: LGPL-2.1-or-later
"""Any VM that the model can hold, as a hypothesis strategy made from the model itself.

A field that somebody adds to the model is tried at once, with all values that its type allows.
"""

import types
import typing
from typing import Annotated, Literal, TypeVar, get_args, get_origin

import msgspec
from hypothesis import strategies as st

from bpferry.domain.binding import PATHS, Form, Table
from bpferry.domain.checks import contradictions_of
from bpferry.domain.model.machine import Machine
from bpferry.domain.shape import Field, fields_of

LETTERS = st.characters(
    # What XML 1.0 can hold and documents may: no control characters, no surrogates.
    codec="utf-8",
    exclude_categories=("Cc", "Cs"),
    exclude_characters="\ufffe\uffff\x85\u2028\u2029",
)
TEXT = st.text(LETTERS, min_size=1, max_size=12).filter(lambda text: text == text.strip())
# Without "/." and "/..", which are the root: which is not the path of a file.
PATH = (
    st.text(LETTERS.filter(lambda sign: sign != "/"), min_size=1, max_size=12)
    .map(lambda name: f"/{name.strip() or 'x'}")
    .filter(lambda path: path not in ("/.", "/.."))
)
T = TypeVar("T", bound=Table)

MOST = 4
"""Fields of one table that are tried beside those that it needs."""
SIZES = st.integers(1, 2**62)


def machines() -> st.SearchStrategy[Machine]:
    """Return the strategy of all VMs that make sense."""
    return tables(Machine).filter(is_sound)


def is_sound(machine: Machine) -> bool:
    """Say whether *machine* is one that either kind of document can describe."""
    return not any(contradictions_of(machine))


def tables(table: type[T]) -> st.SearchStrategy[T]:
    """Return the strategy of all values of *table*, few fields at a time."""
    needed: dict[str, st.SearchStrategy[object]] = {}
    optional: dict[str, st.SearchStrategy[object]] = {}
    for bound in fields_of(table):
        strategy = _of_field(bound.whole, bound)
        (needed if bound.default is msgspec.NODEFAULT else optional)[bound.name] = strategy
    names = sorted(optional) or [""]
    some = st.lists(st.sampled_from(names), max_size=MOST * bool(optional), unique=True)
    return some.flatmap(
        lambda names: st.fixed_dictionaries(
            {**needed, **{name: optional[name] for name in names}}
        ).map(lambda values: table(**values))
    )


def _of_field(annotation: object, bound: Field) -> st.SearchStrategy[object]:
    if bound.many:
        return st.lists(_single(annotation, bound), max_size=2).map(tuple)
    return _single(annotation, bound)


def _single(annotation: object, bound: Field) -> st.SearchStrategy[object]:
    table = bound.table
    if table is not None:
        return st.deferred(lambda: tables(table))
    if bound.choices:
        return st.sampled_from(bound.choices)
    if bound.scalar is bool:
        # An element that is there says yes; that it is not there is the default.
        return st.sampled_from([True] if bound.at.form is Form.PRESENT else [True, False])
    return _number(annotation, bound) if bound.scalar is int else _text(annotation, bound)


def _number(annotation: object, bound: Field) -> st.SearchStrategy[int]:
    meta = _meta(annotation)
    if bound.at.form is Form.SIZE:
        return SIZES
    low = next((m.ge for m in meta if m.ge is not None), 0)
    below = next((m.lt for m in meta if m.lt is not None), 2**31)
    high = next((m.le for m in meta if m.le is not None), below - 1)
    return st.integers(int(low), int(high))


def _text(annotation: object, bound: Field) -> st.SearchStrategy[str]:
    pattern = next((m.pattern for m in _meta(annotation) if m.pattern), None)
    if pattern:
        return st.from_regex(pattern, fullmatch=True)
    return PATH if bound.at.form in PATHS else TEXT


def _meta(annotation: object) -> list[msgspec.Meta]:
    """Return the bounds in *annotation*, wherever they are."""
    found = []
    if get_origin(annotation) is Annotated:
        found += [extra for extra in get_args(annotation)[1:] if isinstance(extra, msgspec.Meta)]
    if get_origin(annotation) in (Annotated, tuple, typing.Union, types.UnionType):
        for arg in get_args(annotation):
            if get_origin(arg) is not Literal:
                found += _meta(arg)
    return found
