# SPDX-License-Identifier: LGPL-2.1-or-later
"""Text as man(7) wants it: escaped, and in the few macros that every viewer knows."""

import os
import re
import time
from collections.abc import Iterable, Iterator
from typing import Final

from bpferry_wire import VERSION

ESCAPES: Final = {"\\": "\\e", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", "'": "\\(aq"}
"""Characters that would otherwise become typographic ones, or commands."""

INDENT: Final = "4n"

MARGIN: Final = 7
WIDTH: Final = 80
"""Of a page, in columns, and of the margin before its text (groff_man(7))."""


def escape(text: str) -> str:
    """Return *text* as it is to be seen; hyphens can be pasted into a shell."""
    return "".join(ESCAPES.get(one, "\\-" if one == "-" else one) for one in text)


def bold(text: str) -> str:
    """Return *text*, which is escaped, in bold."""
    return f"\\fB{text}\\fR" if text else ""


def italic(text: str) -> str:
    """Return *text*, which is escaped, in italics."""
    return f"\\fI{text}\\fR" if text else ""


def line(text: str) -> str:
    """Return *text*, which is escaped, as one line that is no command."""
    return f"\\&{text}" if text.startswith((".", "'")) else text


def lines(text: str) -> Iterator[str]:
    """Yield the lines of *text*, which is escaped, to be filled."""
    for one in text.splitlines():
        if one.strip():
            yield line(one.strip())


def page(name: str, number: int, summary: str, body: Iterable[str]) -> str:
    """Return the page *name* of the section *number*, of which *body* is the rest."""
    head = [
        f'.TH "{name.upper()}" "{number}" "{_today()}" "bpferry {VERSION}" "bpferry"',
        section("NAME"),
        f"{escape(name)} \\- {escape(summary)}",
    ]
    return "\n".join(_without_idle_paragraphs([*head, *body])) + "\n"


def _today() -> str:
    """Return the date of the page, which builders may set (reproducible-builds.org)."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    when = time.time() if seconds is None else int(seconds)
    return time.strftime("%Y-%m-%d", time.gmtime(when))


def _without_idle_paragraphs(found: Iterable[str]) -> Iterator[str]:
    """Yield lines without paragraphs that begin where one has just begun."""
    before = ""
    for one in found:
        if one != ".PP" or not before.startswith((".SH", ".SS", ".PP")):
            yield one
        before = one


def section(title: str) -> str:
    """Return the heading of a section."""
    return f'.SH "{escape(title)}"'


def subsection(title: str) -> str:
    """Return the heading of a part of a section."""
    return f'.SS "{escape(title)}"'


def literal(text: str, indent: str = INDENT) -> Iterator[str]:
    """Yield *text*, which is not escaped, with its lines as they are.

    It has no *indent* if it would not fit on the page with one.
    """
    widest = max(map(len, text.splitlines()), default=0)
    if MARGIN + int(indent.removesuffix("n") or 0) + widest > WIDTH:
        indent = ""
    yield ".PP"
    if indent:
        yield f".RS {indent}"
    yield ".nf"
    for one in text.rstrip("\n").splitlines():
        yield line(escape(one)) if one.strip() else ".sp"
    yield ".fi"
    if indent:
        yield ".RE"


def tagged(tag: str, body: Iterable[str]) -> Iterator[str]:
    """Yield a paragraph with a *tag* in front, which is escaped."""
    yield from (".TP", line(tag) or "\\&")
    found = list(body)
    yield from found or ["\\&"]


def words_in_bold(text: str) -> str:
    """Return *text* such as ``--memory SIZE`` with options in bold and values in italics."""
    parts = re.split(r"(--?[A-Za-z][A-Za-z0-9-]*)", text)
    shown = (bold(escape(one)) if at % 2 else _values(one) for at, one in enumerate(parts))
    return "".join(shown)


def _values(text: str) -> str:
    return re.sub(r"[^\s,\[\]=|]+", lambda found: italic(escape(found[0])), text)
