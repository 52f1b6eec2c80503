# SPDX-License-Identifier: LGPL-2.1-or-later
"""From the text of a policy file to a checked Policy; every mistake has a line.

tomllib does not say where a value stood. A TOML file is a sequence of statements, and a statement
parses on its own: so each is found by adding lines until it does, which also gives its first line.
The file as a whole is parsed as well, since only that notices a key that stands twice.
"""

import grp
import pwd
import re
import tomllib
from collections.abc import Callable, Iterator
from typing import Any, Final

from bpferry_helper.errors import PolicyError
from bpferry_helper.policy import MAX_SETS, Policy
from bpferry_wire.limits import UINT32_MAX
from bpferry_wire.objects import PROG_TYPE_NAMES

Check = Callable[[object], Any]

MAX_PACE: Final = 1000
"""Loads a second. No machine reaches it; it keeps the arithmetic sane."""

MAX_IDLE_S: Final = 86_400

ENDS: Final = ("]", "}", '"""', "'''")
"""What the last line of a value of several lines has. Only such lines are tried as an end: to try
each would take 18 s for a list of 3,000 users."""


def parse_policy(path: str, text: str, socket_gid: int) -> Policy:
    """Return the policy that *text* says.

    Raises:
        PolicyError: with the line of the first mistake.
    """
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # A number of 5,000 digits is a plain ValueError, a thousand brackets a RecursionError.
        raise PolicyError(path, _line_of(error, text), f"is not valid TOML: {error}") from error
    lines = {".".join(keys): line for keys, line in key_lines(text)}
    values = _checked_values(path, tables, lines)
    default_groups = frozenset() if "load" in tables else frozenset({socket_gid})
    return Policy(
        path=path,
        users=values.pop("users", frozenset()),
        groups=values.pop("groups", default_groups),
        lines=lines,
        **values,
    )


def _line_of(error: Exception, text: str) -> int:
    """Return the line in tomllib's message; its words are stable, its attributes came in 3.14."""
    found = re.search(r"at line (\d+)", str(error))
    if found:
        return int(found[1])
    return text.count("\n") + 1 if "end of document" in str(error) else 0


def _checked_values(path: str, tables: dict[str, Any], lines: dict[str, int]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for table, content in tables.items():
        known = [key for key in CHECKS if key.startswith(f"{table}.")]
        if not known or not isinstance(content, dict):
            allowed = ", ".join(sorted({f"[{key.split('.')[0]}]" for key in CHECKS}))
            raise PolicyError(path, _line(lines, table), f"unknown '{table}'; there are {allowed}")
        for name, value in content.items():
            key = f"{table}.{name}"
            if key not in CHECKS:
                allowed = ", ".join(k.split(".")[1] for k in known)
                message = f"unknown key '{name}' in [{table}]; there are {allowed}"
                raise PolicyError(path, _line(lines, key), message)
            field, check = CHECKS[key]
            try:
                values[field] = check(value)
            except ValueError as error:
                raise PolicyError(path, _line(lines, key), f"'{name}' {error}") from error
    return values


def _line(lines: dict[str, int], key: str) -> int:
    """Return the line of *key*, or of the first key below it, or of the table that it is in."""
    below = (line for name, line in lines.items() if name.startswith(f"{key}."))
    return lines.get(key) or min(below, default=lines.get(key.partition(".")[0], 0))


def key_lines(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield each key with its tables, and the line where its statement begins."""
    table: tuple[str, ...] = ()
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


def _only_path(parsed: dict[str, Any]) -> tuple[str, ...]:
    """Return the keys of the one value in *parsed*, the document of a single statement."""
    keys: list[str] = []
    inner: object = parsed
    while isinstance(inner, dict) and len(inner) == 1:
        key, inner = next(iter(inner.items()))
        keys.append(key)
    return tuple(keys)


def _ids(find: Callable[[str], int], kind: str) -> Check:
    def check(value: object) -> frozenset[int]:
        if not isinstance(value, list):
            raise ValueError(f"must be a list of {kind} names and ids")
        return frozenset(_id(entry, find, kind) for entry in value)

    return check


def _id(entry: object, find: Callable[[str], int], kind: str) -> int:
    if type(entry) is int and 0 <= entry < UINT32_MAX:
        return entry
    if not isinstance(entry, str):
        raise ValueError(f"has {entry!r}, which is no {kind} name and no id")
    try:
        return find(entry)
    except KeyError:
        raise ValueError(f"names the {kind} '{entry}', which this host does not have") from None


def _patterns(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ValueError("must be a list of paths")
    for pattern in value:
        folder, _, name = pattern.rpartition("/")
        if not pattern.startswith("/") or not name or ".." in pattern.split("/"):
            raise ValueError(f"has '{pattern}', which is no absolute path")
        if any(wildcard in folder for wildcard in "*?["):
            raise ValueError(f"has '{pattern}': only the last part may have wildcards")
    return tuple(value)


def _program_types(value: object) -> frozenset[int]:
    if not isinstance(value, list):
        raise ValueError("must be a list of program types")
    for name in value:
        if not isinstance(name, str) or name not in PROG_TYPE_NAMES:
            raise ValueError(f"has {name!r}; possible are {', '.join(PROG_TYPE_NAMES)}")
    return frozenset(PROG_TYPE_NAMES[name] for name in value)


def _number(low: int, high: int) -> Check:
    def check(value: object) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"must be a number from {low} to {high}")
        return value

    return check


CHECKS: Final[dict[str, tuple[str, Check]]] = {
    "load.users": ("users", _ids(lambda name: pwd.getpwnam(name).pw_uid, "user")),
    "load.groups": ("groups", _ids(lambda name: grp.getgrnam(name).gr_gid, "group")),
    "qemu.trusted": ("trusted", _patterns),
    "objects.program-types": ("program_types", _program_types),
    "quota.sets-per-user": ("sets_per_user", _number(0, MAX_SETS)),
    "quota.sets-in-total": ("sets_in_total", _number(0, MAX_SETS)),
    "quota.loads-at-once": ("loads_at_once", _number(1, MAX_PACE)),
    "quota.loads-per-second": ("loads_per_second", _number(1, MAX_PACE)),
    "service.idle-exit-seconds": ("idle_exit_s", _number(1, MAX_IDLE_S)),
}
"""Each key of the file, the field of Policy that it sets, and its check."""
