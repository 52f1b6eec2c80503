# SPDX-License-Identifier: LGPL-2.1-or-later
"""The line in which each key of a TOML file is, which tomllib does not say.

A TOML file is a sequence of statements, and a statement parses on its own: so each is found by
adding lines until it does, which also gives its first line.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final

Keys = tuple[str, ...]
"""A key with the tables that it is in, outermost first."""

ENDS: Final = ("]", "}", '"""', "'''")
"""What the last line of a value of several lines has. Only such lines are tried as an end: to try
each would take 18 s for a list of 3,000 users."""

BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
"""A key that needs no quotes (TOML 1.0, "Keys")."""


def key_lines(text: str) -> Iterator[tuple[Keys, int]]:
    """Yield each key with its tables, and the line where its statement begins."""
    table: Keys = ()
    lines = text.replace("\r\n", "\n").split("\n")
    first = 0
    for last in range(len(lines)):
        if last > first and not any(end in lines[last] for end in ENDS):
            continue
        statement = "\n".join(lines[first : last + 1])
        try:
            parsed = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        if parsed:
            keys = _only_path(parsed)
            if statement.lstrip().startswith("["):
                table = keys
                yield table, first + 1
            else:
                yield table + keys, first + 1
        first = last + 1


def _only_path(parsed: dict[str, Any]) -> Keys:
    """Return the keys of the one value in *parsed*, the document of a single statement."""
    keys: list[str] = []
    inner: object = parsed
    while isinstance(inner, dict) and len(inner) == 1:
        key, inner = next(iter(inner.items()))
        keys.append(key)
    return tuple(keys)


def line_of(lines: Mapping[Keys, int], keys: Keys) -> int:
    """Return the line of *keys*, or of the first key below it, or of the table that it is in.

    An inline table has one line for all that is in it. 0 if there is nothing of it at all.
    """
    if keys in lines:
        return lines[keys]
    below = [line for found, line in lines.items() if found[: len(keys)] == keys]
    if below:
        return min(below)
    return line_of(lines, keys[:-1]) if len(keys) > 1 else 0


def dotted(keys: Keys) -> str:
    """Return *keys* as TOML writes them in one, such as ``bridges."br0.7".isolated``."""
    return ".".join(key if BARE.fullmatch(key) else _quoted(key) for key in keys)


def _quoted(key: str) -> str:
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
