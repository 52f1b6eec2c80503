# SPDX-License-Identifier: LGPL-2.1-or-later
"""A value of a document as a message repeats it: as documents write it, never as Python does."""

import datetime as dt
from collections.abc import Iterable
from typing import Final

from bpferry.domain.binding import Form
from bpferry.domain.shape import Field
from bpferry.errors import harmless

MOST: Final = 60
"""Letters of a value in a message; more do not fit a line."""


def shown(value: object, bound: Field | None) -> str:
    """Return *value*, which was found where *bound* is, as a message may show it.

    Secrets are not shown; tables and lists are not either, since they may contain some.
    """
    if bound is not None and bound.at.form is Form.SECRET:
        return "a value that is not shown here"
    return shorten(value)


def shorten(value: object) -> str:
    """Return *value* as a message shows it, with text in quotes."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    return as_written(value)


def as_written(value: object) -> str:
    """Return a single *value* that is not text as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    try:
        text = str(value)
    except ValueError:
        # Python refuses to print a number of more than 4,300 digits.
        return "a number that is out of range"
    return _cut(text)


def quoted(text: str) -> str:
    """Return *text* in quotes; what a terminal would not show as a letter is written as a code."""
    return f"'{_cut(harmless(text[:MOST], kept=''), text)}'"


def _cut(text: str, whole: str = "") -> str:
    return text if max(len(text), len(whole)) < MOST else text[: MOST - 5] + "..."


def any_of(words: Iterable[str]) -> str:
    """Return *words* in a row, as ``a, b or c``."""
    return _in_a_row(words, "or")


def all_of(words: Iterable[str]) -> str:
    """Return *words* in a row, as ``a, b and c``."""
    return _in_a_row(words, "and")


def _in_a_row(words: Iterable[str], conjunction: str) -> str:
    *first, last = words
    return f"{', '.join(first)} {conjunction} {last}" if first else last
