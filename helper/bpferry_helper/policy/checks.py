# SPDX-License-Identifier: LGPL-2.1-or-later
"""One check for each kind of value in a policy file.

Each returns the value for Policy, or raises ValueError with words that follow the key's name.
"""

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from bpferry_helper.policy.names import is_bridge_name, is_bridge_pattern, is_network_name
from bpferry_wire.limits import (
    MAX_INTERFACE_BYTES,
    MAX_NETWORK_BYTES,
    MAX_VLAN,
    MIN_VLAN,
    UINT32_MAX,
)
from bpferry_wire.messages import Bandwidth, Rate
from bpferry_wire.objects import PROG_TYPE_NAMES
from bpferry_wire.rates import parse_rate

Check = Callable[[object], Any]

A_PATTERN: Final = (
    f"a name has at most {MAX_INTERFACE_BYTES} of the characters A-Z a-z 0-9 _ . -, "
    "and * ? [] as wildcards"
)

IDS: Final = re.compile("0|[1-9][0-9]{0,9}")
ID_RANGE: Final = re.compile("([1-9][0-9]{0,9})-([1-9][0-9]{0,9})")
"""It cannot begin with 0: who rules about containers does not mean root."""

ACCOUNTS: Final = re.compile(r"[A-Za-z_][^\x00-\x20:,/]*")
"""What may be the name of an account that this host does not have at the moment. Names that do not
begin with a letter, such as "-1" and "01", are mistyped numbers."""


class Missing(NamedTuple):
    """An account that this host does not have. That is not a mistake in the file.

    The user was deleted, or a name service is not reachable.
    """

    name: str


def ids(find: Callable[[str], int], kind: str) -> Check:
    """Return the check of a list of accounts of *kind*; *find* returns an id or raises KeyError."""

    def check(value: object) -> frozenset[int | Missing]:
        if not isinstance(value, list):
            raise ValueError(f"must be a list of {kind} names and ids")
        return frozenset(_id(entry, find, kind) for entry in value)

    return check


def _id(entry: object, find: Callable[[str], int], kind: str) -> int | Missing:
    if type(entry) is int and 0 <= entry < UINT32_MAX:
        return entry
    if not isinstance(entry, str):
        raise ValueError(f"has {entry!r}, which is neither a {kind} name nor an id")
    found = _find(entry, find)
    if found is None:
        raise ValueError(f"has {entry!a}, which cannot be the name of a {kind}")
    return found


def _find(name: str, find: Callable[[str], int]) -> int | Missing | None:
    """Return the id of *name*, Missing, or None if no account can have that name."""
    try:
        return find(name)
    except (KeyError, ValueError):
        # ValueError: a name with a NUL.
        return Missing(name) if ACCOUNTS.fullmatch(name) else None


def account(find: Callable[[str], int], kind: str, *, ranges: bool = False) -> Check:
    """Return the check of a table's name, which is a string even if it is an id.

    The value is a range of ids, usually of one; with *ranges*, "20000-29999" is one too.
    """

    def check(name: object) -> range | Missing:
        """Return the ids that *name* stands for."""
        text = str(name)
        if IDS.fullmatch(text) and int(text) < UINT32_MAX:
            return range(int(text), int(text) + 1)
        several = ID_RANGE.fullmatch(text) if ranges else None
        if several and int(several[1]) < int(several[2]) < UINT32_MAX:
            return range(int(several[1]), int(several[2]) + 1)
        found = _find(text, find)
        if found is None:
            more = ", and is no range such as 20000-29999" if ranges else ""
            raise ValueError(f"cannot be the name of a {kind}{more}")
        return found if isinstance(found, Missing) else range(found, found + 1)

    return check


def paths(value: object) -> tuple[str, ...]:
    """Check a list of paths with wildcards in their last parts."""
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ValueError("must be a list of paths")
    for pattern in value:
        folder, _, name = pattern.rpartition("/")
        if not pattern.startswith("/") or not name or ".." in pattern.split("/"):
            raise ValueError(f"has '{pattern}', which is not an absolute path")
        if any(wildcard in folder for wildcard in "*?["):
            raise ValueError(f"has '{pattern}': only the last part may have wildcards")
    return tuple(value)


def program_types(value: object) -> frozenset[int]:
    """Check a list of program types by name."""
    if not isinstance(value, list):
        raise ValueError("must be a list of program types")
    for name in value:
        if not isinstance(name, str) or name not in PROG_TYPE_NAMES:
            raise ValueError(f"has {name!r}; possible are {', '.join(PROG_TYPE_NAMES)}")
    return frozenset(PROG_TYPE_NAMES[name] for name in value)


def number(low: int, high: int) -> Check:
    """Return the check of a number from *low* to *high*."""

    def check(value: object) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"must be a number from {low} to {high}")
        return value

    return check


def flag(value: object) -> bool:
    """Check that it is true or false, not a number."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def refuses(value: object) -> bool:
    """Check what to do with a bridge without an address; return whether to refuse it."""
    if value not in ("set", "refuse"):
        raise ValueError("must be 'set' or 'refuse'")
    return value == "refuse"


VLANS: Final = re.compile("([1-9][0-9]{0,3})-([1-9][0-9]{0,3})")


def vlans(value: object) -> tuple[range, ...]:
    """Check a list of VLANs: numbers, and ranges such as "20-30"."""
    if not isinstance(value, list) or not value:
        raise ValueError('must be a list of VLANs such as [10, "20-30"]')
    return tuple(_vlans(entry) for entry in value)


def _vlans(entry: object) -> range:
    found = VLANS.fullmatch(entry) if isinstance(entry, str) else None
    low, high = (int(found[1]), int(found[2])) if found else (entry, entry)
    if type(low) is not int or type(high) is not int or not MIN_VLAN <= low <= high <= MAX_VLAN:
        raise ValueError(
            f"has {entry!r}, which is neither a number from {MIN_VLAN} to {MAX_VLAN} nor a range "
            'such as "20-30"'
        )
    return range(low, high + 1)


def bandwidth(value: object) -> Bandwidth:
    """Check the limits of a tap: a rate for each direction, or for one of them."""
    if not isinstance(value, dict) or not value or set(value) - set(Bandwidth._fields):
        raise ValueError(
            'must have rates, as in { inbound = "1 Gbit/s", outbound = "100 Mbit/s" }; '
            "one of the two may be left out"
        )
    return Bandwidth(**{way: _rate(way, rate) for way, rate in value.items()})


def _rate(way: str, value: object) -> Rate:
    try:
        return Rate(parse_rate(str(value)))
    except ValueError as error:
        raise ValueError(f"has '{way}', which {error}") from error


def bridge_patterns(value: object) -> tuple[str, ...]:
    """Check a list of bridge names, which may have wildcards."""
    if not isinstance(value, list):
        raise ValueError("must be a list of names of bridges")
    for pattern in value:
        if not isinstance(pattern, str) or not is_bridge_pattern(pattern):
            raise ValueError(f"has {pattern!r}; {A_PATTERN}")
    return tuple(value)


def bridge_pattern(name: object) -> str:
    """Check the name of a [bridges] table, which may have wildcards."""
    if not is_bridge_pattern(str(name)):
        raise ValueError(f"matches no name of a bridge; {A_PATTERN}")
    return str(name)


def bridge(value: object) -> str:
    """Check the name of one bridge."""
    if not isinstance(value, str) or not is_bridge_name(value):
        raise ValueError("must be the name of one bridge")
    return value


def network(name: object) -> str:
    """Check the name of a network."""
    if not is_network_name(str(name)):
        raise ValueError(f"must be 1 to {MAX_NETWORK_BYTES} bytes, all of them printable")
    return str(name)
