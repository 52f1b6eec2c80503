# SPDX-License-Identifier: LGPL-2.1-or-later
"""Check one value against the type of its field, and say in words what is possible there."""

from typing import Final

import msgspec

from bpferry.domain.binding import WORDS
from bpferry.domain.shape import Field

KINDS: Final = {int: "a whole number", bool: "true or false", str: "text"}


def is_possible(bound: Field, value: object) -> bool:
    """Say whether *value* is one that *bound* can have."""
    if bound.scalar in (str, bool) and type(value) is bound.scalar and not _has_bounds(bound):
        return True
    try:
        msgspec.convert(value, bound.single)
    except msgspec.ValidationError:
        return False
    return True


def describe_possible(bound: Field, *, in_xml: bool = False) -> str:
    """Return what *bound* can be, such as ``possible values: a, b``, in its document's words."""
    words = words_of(bound, in_xml=in_xml)
    if words:
        return "possible values: " + ", ".join(words)
    described = next((meta.description for meta in bound.bounds if meta.description), None)
    return "expected " + (described or KINDS.get(bound.scalar, "a table") + _range(bound))


def words_of(bound: Field, *, in_xml: bool = False) -> list[str]:
    """Return the possible words for *bound* as its document has them; empty if any is possible."""
    if in_xml and bound.at.form in WORDS:
        return list(WORDS[bound.at.form])
    theirs = {ours: word for word, ours in bound.at.words} if in_xml else {}
    return [theirs.get(str(choice), str(choice)) for choice in bound.choices]


def _range(bound: Field) -> str:
    low = next((meta.ge for meta in bound.bounds if meta.ge is not None), None)
    high = next((meta.le for meta in bound.bounds if meta.le is not None), None)
    if high is None:
        high = next((meta.lt - 1 for meta in bound.bounds if meta.lt is not None), None)
    if low is not None and high is not None:
        return f" from {low} to {high}"
    return "" if low is None else f" that is at least {low}"


def _has_bounds(bound: Field) -> bool:
    return bool(bound.choices or bound.bounds)
