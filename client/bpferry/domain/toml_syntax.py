# SPDX-License-Identifier: LGPL-2.1-or-later
"""Say what is wrong with the text of a native description that is not TOML, and what to write.

tomllib's own words are about its grammar. What was meant is often clear from the line. A value is
never repeated: it may be a password.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec import Struct

from bpferry.domain.explain import TRUTH, field_at
from bpferry.domain.toml_places import HEADER, KEY
from bpferry.errors import BadInput

WORD: Final = re.compile(r"\s*([A-Za-z0-9_.-]+)")

AT_LINE: Final = re.compile(r" \(at line (\d+), column (\d+)\)| \(at end of document\)")
"""How tomllib says where something is."""

TYPOGRAPHIC: Final = "\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}\
\N{DOUBLE LOW-9 QUOTATION MARK}\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}\
\N{LEFT-POINTING DOUBLE ANGLE QUOTATION MARK}\N{RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK}"
"""Quotation marks of word processors."""

Said = tuple[str, str]
"""What is wrong, and what to do."""


class Spot(Struct, frozen=True):
    """Where tomllib stopped."""

    lines: list[str]
    number: int
    """Of the line, from 1."""
    column: int
    """From 1; 0 if the text ended."""

    @property
    def line(self) -> str:
        """The whole line."""
        return self.lines[self.number - 1] if self.number <= len(self.lines) else ""

    @property
    def rest(self) -> str:
        """What follows in the line."""
        return self.line[self.column - 1 :] if self.column else ""

    @property
    def key(self) -> str:
        """The key of the line, or a word in place of one."""
        found = KEY.match(self.line)
        return found[1] if found else "key"


def explain_syntax(path: Path, text: str, error: ValueError) -> BadInput:
    """Return what tomllib found in *text* in our words, with the line in front as everywhere."""
    said = str(error)
    lines = text.split("\n")
    found = AT_LINE.search(said)
    spot = Spot(lines, *_position(found, lines))
    bare = AT_LINE.sub("", said)
    what, hint = next((tell(spot) for words, tell in KINDS if words in bare), (bare, ""))
    column = f" (column {spot.column})" if spot.column else ""
    line = f":{spot.number}" if found else ""
    return BadInput(f"'{path}'{line} is not valid TOML: {what}{column}", hint)


def _position(found: re.Match[str] | None, lines: list[str]) -> tuple[int, int]:
    if found and found[1]:
        return int(found[1]), int(found[2])
    written = [number for number, line in enumerate(lines, 1) if line.strip()]
    return (written[-1] if written else 1), 0


def _unclosed(spot: Spot) -> Said:
    if spot.column and spot.column <= len(spot.line):
        return "text contains a control character", r"write it as a code, such as \u0000"
    return (
        "text has no closing quote on its line",
        "end it with the quote that it begins with; three quotes are around text of several lines",
    )


def _unclosed_at_the_end(_: Spot) -> Said:
    return (
        "the file ends inside quotes or brackets",
        "add the closing quote or bracket",
    )


def _twice(spot: Spot) -> Said:
    if HEADER.fullmatch(spot.line):
        return _table_twice(spot)
    first = 0
    for number, line in enumerate(spot.lines[: spot.number - 1], 1):
        found = KEY.match(line)
        if HEADER.fullmatch(line):
            first = 0
        elif not first and found and found[1] == spot.key:
            first = number
    where = f" in line {first}" if first else " above"
    return f"'{spot.key}' is already set{where}", "remove one of the two"


def _table_twice(spot: Spot) -> Said:
    """Tell of a table's header whose name has been used already."""
    header = HEADER.fullmatch(spot.line)
    name = header[2].replace(" ", "") if header else spot.key
    above = [HEADER.fullmatch(line) for line in spot.lines[: spot.number - 1]]
    same = [
        (i, one[1]) for i, one in enumerate(above, 1) if one and one[2].replace(" ", "") == name
    ]
    if not same or header is None:
        return f"'{name}' is already set above", "write all its keys in one place"
    first, brackets = same[0]
    bound = field_at(name)
    if brackets != header[1] or (bound is not None and bound.many):
        return (
            f"'{name}' is a list, which begins in line {first}",
            f"write [[{name}]], with two brackets, above each entry of the list",
        )
    return (
        f"[{name}] is already in line {first}",
        f"write all its keys below the first [{name}]",
    )


def _no_equals(spot: Spot) -> Said:
    found = WORD.match(spot.line)
    key = found[1] if found else "key"
    return "'=' is missing after the key", f"write {key} = and the value after it"


def _quoted(spot: Spot) -> str:
    key = spot.key
    return f'write a number, or anything else in straight quotes: {key} = 4, or {key} = "..."'


def _no_value(spot: Spot) -> Said:
    rest = spot.rest.partition("#")[0].strip()
    if not spot.column and not KEY.fullmatch(spot.line.rstrip()):
        return _unclosed_at_the_end(spot)
    if not rest:
        return f"the value of '{spot.key}' is missing", _quoted(spot)
    if rest[0] in TYPOGRAPHIC:
        return f"{rest[0]} is not a quotation mark of TOML", _quoted(spot)
    if rest.lower() in TRUTH:
        truth = "true" if TRUTH[rest.lower()] else "false"
        return f"the value of '{spot.key}' is not valid", f"write {spot.key} = {truth}"
    return f"the value of '{spot.key}' is not valid", _quoted(spot)


def _too_much(spot: Spot) -> Said:
    rest = spot.rest.strip()
    if rest.startswith((";", ",")):
        return (
            f"'{rest[0]}' follows the value",
            "leave it out: a line ends with its value",
        )
    if re.search(r"=\s*[+-]?0\d*$", spot.line[: spot.column - 1] + rest[:1]):
        return "a number begins with 0", "leave the 0 out, or write text in quotes"
    return (
        "something follows the value",
        f"{_quoted(spot)}; and each key on a line of its own",
    )


def _no_statement(spot: Spot) -> Said:
    if spot.line.lstrip().startswith("//"):
        return "a comment does not begin with //", "write # in front of a comment"
    return (
        "this is not a line of TOML",
        'write key = "value", a [table], an [[entry of a list]] or a # comment',
    )


def _list(spot: Spot) -> Said:
    return (
        f"',' or ']' is missing in the list '{spot.key}'",
        "write a comma between the values, and ] at the end",
    )


def _header(spot: Spot) -> Said:
    found = re.match(r"\s*(\[\[?)\s*([A-Za-z0-9_.-]+)", spot.line)
    brackets, name = (found[1], found[2]) if found else ("[", "table")
    closing = "]" * len(brackets)
    return f"'{closing}' is missing after the name", f"write {brackets}{name}{closing}"


def _inline(_: Spot) -> Said:
    return (
        "a table in { } has a comma, a line break or a sign where a key has to be",
        'write it in one line with no comma at its end: { key = "value", key = "value" }',
    )


def _backslash(_: Spot) -> Said:
    return (
        r"text contains a '\' that does not begin a code",
        r"""write \\ in place of it, or put the text in single quotes: '...'""",
    )


def _deep(_: Spot) -> Said:
    return "a table or list gets keys in two ways", "write all its keys in one place"


KINDS: Final[tuple[tuple[str, Callable[[Spot], Said]], ...]] = (
    ("Illegal character", _unclosed),
    ("Found invalid character", _unclosed),
    ("Unterminated string", _unclosed_at_the_end),
    ('Expected "\'"', _unclosed_at_the_end),
    ("Cannot overwrite a value", _twice),
    ("Duplicate inline table key", _twice),
    ("Cannot declare", _table_twice),
    ("Cannot mutate immutable namespace", _deep),
    ("Cannot redefine namespace", _deep),
    ("Expected '=' after a key", _no_equals),
    ("Invalid value", _no_value),
    ("Expected newline or end of document", _too_much),
    ("Invalid statement", _no_statement),
    ("Unclosed array", _list),
    ("Expected ']", _header),
    ("Invalid initial character for a key part", _inline),
    ("Unclosed inline table", _inline),
    ("Unescaped '\\'", _backslash),
)
"""By words of tomllib's messages. Its other messages, which are rare, are passed on."""
