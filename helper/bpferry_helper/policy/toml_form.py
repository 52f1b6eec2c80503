# SPDX-License-Identifier: LGPL-2.1-or-later
"""Parses the text of a policy file into a checked Policy; every mistake has a line.

tomllib parses the whole file, and also notices a duplicate key; ``lines`` tells where each key is.
In four of the tables the administrator chooses the next name: a user, a group, a bridge, a network.
"""

import grp
import pwd
import re
import tomllib
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from bpferry_helper.errors import PolicyError
from bpferry_helper.policy import checks
from bpferry_helper.policy.cards import cards
from bpferry_helper.policy.checks import Check, Missing
from bpferry_helper.policy.lines import KeyLines, Keys, dotted
from bpferry_helper.policy.rules import MAX_SETS, MAX_SETS_READY, Policy, Port, Rule
from bpferry_wire.limits import MAX_QUEUES, MAX_TAPS

NOBODY: Final = range(0)
"""In place of ids."""

UNTIL_IT_ASKS: Final = " until a user of that name asks"

ANY: Final = "*"
"""In CHECKS, the placeholder for a name that the administrator chose."""


class _File(NamedTuple):
    path: str
    lines: KeyLines

    def mistake(self, keys: Keys, message: str) -> PolicyError:
        return PolicyError(self.path, self.lines.of(keys), message)


def parse_policy(path: str, text: str, socket_gid: int) -> Policy:
    """Return the policy in *text*.

    Raises:
        PolicyError: with the line of the first mistake.
    """
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # 5,000 digits are a plain ValueError, a thousand brackets a RecursionError.
        raise PolicyError(path, _line_in(error, text), f"is not valid TOML: {error}") from error
    file = _File(path, KeyLines(text))
    checked = dict(_checked_values(file, tables))
    values = {keys: _here(value) for keys, value in checked.items()}
    fields = {CHECKS[dotted(k)][0]: v for k, v in values.items() if k[0] not in NAMES}
    # Tables, and keys in inline tables, need not have a statement.
    implied = [*((table,) for table in tables), *values]
    fields.setdefault("users", frozenset())
    fields.setdefault("groups", frozenset() if "load" in tables else frozenset({socket_gid}))
    return Policy(
        path=path,
        rules=tuple(
            sorted(_rules(file, tables, values), key=lambda rule: (rule.is_group, len(rule.ids)))
        ),
        unknown=tuple(
            (ids.name, _rule((table, name), content, values, NOBODY))
            for table, name, content, ids in _rule_tables(tables, values)
            if isinstance(ids, Missing)
        ),
        ports=tuple(_ports(tables, values)),
        networks={keys[1]: value for keys, value in values.items() if keys[0] == "networks"},
        warnings=tuple(_missing(file, checked)),
        lines={dotted(keys): file.lines.of(keys) for keys in (*file.lines.exact, *implied)},
        **fields,
    )


def _line_in(error: Exception, text: str) -> int:
    """Return the line in tomllib's message: the attributes are new in Python 3.14."""
    found = re.search(r"at line (\d+)", str(error))
    if found:
        return int(found[1])
    return text.count("\n") + 1 if "end of document" in str(error) else 0


def _checked_values(file: _File, tables: dict[str, Any]) -> Iterator[tuple[Keys, Any]]:
    """Yield each value with its keys, and the ids of each rule with its keys."""
    for table, content in tables.items():
        if table not in TABLES:
            allowed = ", ".join(f"[{known}]" for known in TABLES)
            raise file.mistake((table,), f"unknown '{table}'; possible: {allowed}")
        if not isinstance(content, dict):
            raise file.mistake((table,), f"'{table}' must be a table, and not a list or a value")
        for name, value in content.items():
            yield from _checked_entry(file, (table, name), value)


def _here(value: Any) -> Any:  # noqa: ANN401 - see CHECKS
    """Return *value* without accounts that this host does not have."""
    if not isinstance(value, frozenset):
        return value
    return frozenset(entry for entry in value if not isinstance(entry, Missing))


def _missing(file: _File, checked: dict[Keys, Any]) -> Iterator[str]:
    """Yield a warning for each named account that this host does not have."""
    for keys, value in checked.items():
        entries = [value] if isinstance(value, Missing) else value
        if isinstance(entries, list | frozenset):
            for entry in entries:
                if isinstance(entry, Missing):
                    until = UNTIL_IT_ASKS if keys[0] == "users" else ""
                    what = f"this host has no such account: {entry.name!a}; it is skipped{until}"
                    yield str(file.mistake(keys, f"'{dotted(keys)}': {what}"))


def _checked_entry(file: _File, keys: Keys, value: object) -> Iterator[tuple[Keys, Any]]:
    table, name = keys
    if table not in NAMES:
        yield keys, _checked_value(file, keys, value)
        return
    named = _checked(file, keys, name, NAMES[table])
    if table == "networks":
        yield keys, _checked_value(file, keys, value)
    elif not isinstance(value, dict):
        raise file.mistake(keys, f"'{name}' must be a table: [{dotted(keys)}]")
    else:
        yield keys, named
        for key, inner in value.items():
            yield (*keys, key), _checked_value(file, (*keys, key), inner)


def _checked_value(file: _File, keys: Keys, value: object) -> Any:  # noqa: ANN401 - see CHECKS
    shape = _shape(keys)
    if shape in FORMER:
        raise file.mistake(keys, f"'{keys[-1]}' {FORMER[shape]}")
    if shape not in CHECKS:
        table = f"{_shape(keys[:-1])}."
        allowed = ", ".join(key.removeprefix(table) for key in CHECKS if key.startswith(table))
        message = f"unknown key '{keys[-1]}' in [{dotted(keys[:-1])}]; possible: {allowed}"
        raise file.mistake(keys, message)
    return _checked(file, keys, value, CHECKS[shape][1])


def _checked(file: _File, keys: Keys, value: object, check: Check) -> Any:  # noqa: ANN401
    try:
        return check(value)
    except ValueError as error:
        raise file.mistake(keys, f"'{keys[-1]}' {error}") from error


def _shape(keys: Keys) -> str:
    """Return the key in CHECKS for *keys*."""
    return ".".join((keys[0], ANY, *keys[2:]) if keys[0] in NAMES else keys)


def _rules(file: _File, tables: dict[str, Any], values: dict[Keys, Any]) -> Iterator[Rule]:
    found: dict[tuple[str, range], Keys] = {}
    for table, name, content, ids in _rule_tables(tables, values):
        if isinstance(ids, Missing):
            continue
        keys = (table, name)
        first = found.setdefault((table, ids), keys)
        if first != keys:
            message = f"'{name}' is id {ids[0]}, as is [{dotted(first)}]"
            raise file.mistake(keys, message)
        yield _rule(keys, content, values, ids)


def _rule_tables(
    tables: dict[str, Any], values: dict[Keys, Any]
) -> Iterator[tuple[str, str, dict[str, Any], range | Missing]]:
    """Yield the table, name and content of each rule, and whose it is."""
    for table in ("users", "groups"):
        for name, content in tables.get(table, {}).items():
            yield table, name, content, values[(table, name)]


def _rule(keys: Keys, content: dict[str, Any], values: dict[Keys, Any], ids: range) -> Rule:
    fields = {"bridges": (), **_fields(keys, content, values)}
    port = {name: fields.pop(name) for name in Port._fields if name in fields}
    return Rule(dotted(keys), is_group=keys[0] == "groups", ids=ids, **fields, port=port)


def _ports(tables: dict[str, Any], values: dict[Keys, Any]) -> Iterator[Port]:
    for pattern, content in tables.get("bridges", {}).items():
        keys = ("bridges", pattern)
        yield Port(dotted(keys), pattern, **_fields(keys, content, values))


def _fields(keys: Keys, content: dict[str, Any], values: dict[Keys, Any]) -> dict[str, Any]:
    return {CHECKS[_shape((*keys, key))][0]: values[(*keys, key)] for key in content}


MAX_PACE: Final = 1000
"""Loads or taps a second. No machine gets there; this keeps the arithmetic sane."""

MAX_IDLE_S: Final = 86_400

MAX_TX_QUEUE_LENGTH: Final = 4096
"""Frames. As many of 64 KiB are 256 MiB of the kernel's memory for one queue that nobody reads."""

_USER: Final = (lambda name: pwd.getpwnam(name).pw_uid, "user")
_GROUP: Final = (lambda name: grp.getgrnam(name).gr_gid, "group")

NAMES: Final[dict[str, Check]] = {
    "users": checks.account(*_USER, ranges=True),
    "groups": checks.account(*_GROUP),
    "bridges": checks.bridge_pattern,
    "networks": checks.network,
}
"""Tables in which the administrator chooses the names, and how those are checked."""

PORT_CHECKS: Final[dict[str, tuple[str, Check]]] = {
    "isolated": ("isolated", checks.flag),
    "address-lock": ("address_lock", checks.flag),
    "addresses": ("addresses", cards),
    "bpdu-guard": ("bpdu_guard", checks.flag),
    "root-block": ("root_block", checks.flag),
    "multicast-flood": ("multicast_flood", checks.flag),
    "unicast-flood": ("unicast_flood", checks.flag),
    "vlans": ("vlans", checks.vlans),
    "bandwidth": ("bandwidth", checks.bandwidth),
    "tx-queue-length": ("tx_queue_length", checks.number(1, MAX_TX_QUEUE_LENGTH)),
}
"""How a tap is attached, for a bridge, for a user or for a group: words of ``bridge link set``."""

FORMER: Final = {
    "bridges.*.learning": "is no longer a key: write 'address-lock = true' in place of "
    "'learning = false', which let frames with false addresses pass",
}
"""Keys of earlier versions, and what to write now."""

CHECKS: Final[dict[str, tuple[str, Check]]] = {
    "load.users": ("users", checks.ids(*_USER)),
    "load.groups": ("groups", checks.ids(*_GROUP)),
    "users.*.bridges": ("bridges", checks.bridge_patterns),
    "users.*.deny": ("deny", checks.bridge_patterns),
    "users.*.queues-per-tap": ("queues_per_tap", checks.number(1, MAX_QUEUES)),
    "users.*.taps": ("taps", checks.number(0, MAX_TAPS)),
    "groups.*.bridges": ("bridges", checks.bridge_patterns),
    "groups.*.queues-per-tap": ("queues_per_tap", checks.number(1, MAX_QUEUES)),
    "groups.*.taps": ("taps", checks.number(0, MAX_TAPS)),
    **{
        f"{table}.*.{key}": check
        for table in ("users", "groups", "bridges")
        for key, check in PORT_CHECKS.items()
    },
    "bridges.*.address": ("refuse_unset_address", checks.refuses),
    "networks.*": ("networks", checks.bridge),
    "qemu.trusted": ("trusted", checks.paths),
    "qemu.bridge-conf": ("bridge_conf", checks.flag),
    "objects.program-types": ("program_types", checks.program_types),
    "quota.sets-per-user": ("sets_per_user", checks.number(0, MAX_SETS)),
    "quota.sets-in-total": ("sets_in_total", checks.number(0, MAX_SETS)),
    "quota.sets-ready": ("sets_ready", checks.number(0, MAX_SETS_READY)),
    "quota.without-census": ("without_census", checks.flag),
    "quota.loads-at-once": ("loads_at_once", checks.number(1, MAX_PACE)),
    "quota.loads-per-second": ("loads_per_second", checks.number(1, MAX_PACE)),
    "quota.loads-per-second-in-total": ("loads_per_second_in_total", checks.number(1, MAX_PACE)),
    "quota.taps-per-user": ("taps_per_user", checks.number(0, MAX_TAPS)),
    "quota.taps-in-total": ("taps_in_total", checks.number(0, MAX_TAPS)),
    "quota.queues-per-tap": ("queues_per_tap", checks.number(1, MAX_QUEUES)),
    "quota.taps-at-once": ("taps_at_once", checks.number(1, MAX_PACE)),
    "quota.taps-per-second": ("taps_per_second", checks.number(1, MAX_PACE)),
    "quota.taps-per-second-in-total": ("taps_per_second_in_total", checks.number(1, MAX_PACE)),
    "service.idle-exit-seconds": ("idle_exit_s", checks.number(1, MAX_IDLE_S)),
}
"""Each key of the file, the field of Policy, Rule or Port that it sets, and its check."""

TABLES: Final = tuple(dict.fromkeys(key.partition(".")[0] for key in CHECKS))
