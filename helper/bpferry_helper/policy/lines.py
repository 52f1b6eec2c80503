# SPDX-License-Identifier: LGPL-2.1-or-later
"""The line of each key in a TOML file, which tomllib does not tell.

A TOML file is a sequence of statements, and each statement parses on its own. It ends with the
first line that leaves no bracket and no multi-line string open. So each part of the file is
scanned once and parsed once, and the worst 64 KiB take no longer than others.
"""

import re
import tomllib
from collections.abc import Iterator
from typing import Any, Final

Keys = tuple[str, ...]
"""A key and the tables that it is in, outermost first."""

BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
"""A key that needs no quotes (TOML 1.0, "Keys")."""

TOKEN: Final = re.compile(
    r'''"""(?:[^\\]|\\.)*?"{3,5}|"(?:[^"\\\n]|\\.)*"|#[^\n]*|[][{}\n]'''
    r"""|'''.*?'{3,5}|'[^'\n]*'""",
    re.DOTALL,
)
"""What decides where a statement ends, in a text that is valid TOML."""


class KeyLines:
    """The line of each key of a text that is valid TOML."""

    def __init__(self, text: str) -> None:
        """Find the keys in *text*."""
        self.exact: Final[dict[Keys, int]] = {}
        """By key with a statement: the line where that begins."""
        self._first: dict[Keys, int] = {}
        """By table: the line of the first key in it."""
        for keys, line in _key_lines(text.replace("\r\n", "\n")):
            self.exact[keys] = line
            for length in range(1, len(keys)):
                self._first.setdefault(keys[:length], line)

    def of(self, keys: Keys) -> int:
        """Return the line of *keys*, or of the first key below it, or of the table that it is in.

        Everything in an inline table has the line of the table. 0 if nothing is found.
        """
        while keys:
            line = self.exact.get(keys) or self._first.get(keys)
            if line:
                return line
            keys = keys[:-1]
        return 0


def _key_lines(text: str) -> Iterator[tuple[Keys, int]]:
    """Yield each key with its tables and the line where its statement begins."""
    table: Keys = ()
    for line, statement in _statements(text):
        parsed = tomllib.loads(statement)
        if not parsed:
            continue
        keys = _only_path(parsed)
        if statement.lstrip().startswith("["):
            table = keys
            yield table, line
        else:
            yield table + keys, line


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield each statement of *text*, even empty ones, and the line where it begins."""
    start, line, first, depth = 0, 1, 1, 0
    for token in TOKEN.finditer(text):
        found = token[0]
        line += found.count("\n")
        if found in "[{":
            depth += 1
        elif found in "]}":
            depth -= 1
        elif found == "\n" and not depth:
            yield first, text[start : token.end()]
            start, first = token.end(), line
    yield first, text[start:]


def _only_path(parsed: dict[str, Any]) -> Keys:
    """Return the keys of the one value in *parsed*, the document of a single statement."""
    keys: list[str] = []
    inner: object = parsed
    while isinstance(inner, dict) and len(inner) == 1:
        key, inner = next(iter(inner.items()))
        keys.append(key)
    return tuple(keys)


def dotted(keys: Keys) -> str:
    """Return *keys* as a dotted key of TOML, such as ``bridges."br0.7".isolated``."""
    return ".".join(key if BARE.fullmatch(key) else _quoted(key) for key in keys)


def _quoted(key: str) -> str:
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
