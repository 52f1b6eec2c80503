# SPDX-License-Identifier: LGPL-2.1-or-later
"""Words for both forms of a document in one text, of which a user is told those of their own.

What builds a VM does not know which form it is from. It says both where they differ, and who adds
the place in the document keeps one of them.
"""

import re
from typing import Final, Literal

from bpferry.domain.binding import Table
from bpferry.domain.shape import Field, fields_of

Kind = Literal["xml", "toml"]
"""The forms of a document."""

# Signs that are not seen: a text that nobody has settled still says both.
START, MIDDLE, END = "\u2061", "\u2062 (in XML: ", "\u2063)"

BOTH: Final = f"{START}(.*?){re.escape(MIDDLE)}(.*?){re.escape(END)}"


def either(toml: str, xml: str) -> str:
    """Return a piece of text that is *toml* or *xml*, by the form of the document."""
    return f"{START}{toml}{MIDDLE}{xml}{END}"


def in_form(text: str, kind: Kind) -> str:
    """Return *text* in the words of one form."""
    if START not in text:
        return text
    return re.sub(BOTH, r"\1" if kind == "toml" else r"\2", text, flags=re.DOTALL)


def called(table: type[Table], field: str) -> str:
    """Return what documents call *field* of *table*."""
    return name_of(next(bound for bound in fields_of(table) if bound.name == field))


def name_of(bound: Field) -> str:
    """Return what documents call the field *bound*."""
    return either(f"'{bound.key}'", _in_xml(bound.at.path))


def _in_xml(path: str) -> str:
    around, _, last = path.rpartition("/")
    if last == ".":
        return "the text"
    if not last.startswith("@"):
        return f"<{last}>"
    inside = f" in <{around.rpartition('/')[2]}>" if around else ""
    return f"{last[1:]}='...'{inside}"
