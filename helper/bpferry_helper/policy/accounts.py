# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whose a uid is: an account of this host, one that another is subordinate to, or nobody's.

A user may have 65,536 uids to run containers with (subuid(5)), and can be each of them. To judge
and charge them one by one would give that user 65,536 quotas. So they count as their owner.

What root delegates is not root: a container that root made runs with ids that nobody shall take for
uid 0. Such ids belong to nobody here. Known hole: ranges that are in no file but come from a name
service (nsswitch.conf, "subid:") are not known; their uids belong to nobody and are refused.
"""

import pwd
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from bpferry_helper.errors import PolicyError
from bpferry_helper.log import WARNING, log
from bpferry_helper.policy.file import read_roots_file
from bpferry_wire.limits import UINT32_MAX

SUBUID_PATH: Final = "/etc/subuid"

MAX_SUBUID_BYTES: Final = 1_048_576
"""Lines of 30,000 users; useradd writes 24 bytes for one."""


class Range(NamedTuple):
    """The uids from *start* up to *end*, without that, which *owner* may be."""

    start: int
    end: int
    owner: int


class Subordinates:
    """Which uids are whose subordinates."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        """Know *ranges*. Of two that overlap, the one that begins first has what both name."""
        self._ranges: list[Range] = []
        end = 0
        for one in sorted(ranges):
            start = max(one.start, end)
            if start < one.end:
                self._ranges.append(one._replace(start=start))
                end = one.end
        self._starts = [one.start for one in self._ranges]

    def owner(self, uid: int) -> int | None:
        """Return the user who may be *uid*, or None if no range has it."""
        at = bisect_right(self._starts, uid) - 1
        if at < 0 or uid >= self._ranges[at].end:
            return None
        return self._ranges[at].owner


def read_subordinates(path: str = SUBUID_PATH) -> Subordinates:
    """Read *path*. What cannot be read or understood belongs to nobody. May wait for names."""
    try:
        text = read_roots_file(path, MAX_SUBUID_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return Subordinates()
    except (OSError, PolicyError) as error:
        log(WARNING, f"no subordinate uid has an owner: '{path}' cannot be used: {error}, ignoring")
        return Subordinates()
    return Subordinates(_ranges(text))


def _ranges(text: str) -> Iterator[Range]:
    """Yield the ranges in *text*, a line "OWNER:START:COUNT" each."""
    for line in text.splitlines():
        name, _, numbers = line.strip().partition(":")
        start, _, count = numbers.partition(":")
        if not (_is_number(start) and _is_number(count)):
            continue
        owner = _uid_of(name)
        if owner:
            yield Range(int(start), min(int(start) + int(count), UINT32_MAX), owner)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len(str(UINT32_MAX))


def _uid_of(name: str) -> int | None:
    if _is_number(name):
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):
        return None


def has_name(uid: int) -> bool:
    """Say whether *uid* is an account of this host. May wait for a name service."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
