# SPDX-License-Identifier: LGPL-2.1-or-later
"""To which account a uid belongs: its own, that of its owner if it is subordinate, or none.

A user may have 65,536 uids to run containers with (subuid(5)), and can become any of them. If each
counted as a user, that user would have 65,536 quotas. So they count as their owner.

What root delegates is not root: a container made by root runs with uids that must not be taken for
uid 0. Such uids belong to no account. Known hole: ranges from a name service (nsswitch.conf,
"subid:") instead of the file are not known; their uids belong to no account and are refused.
"""

import grp
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
"""Enough for 30,000 users; useradd writes 24 bytes per user."""


class Range(NamedTuple):
    """The uids from *start* up to but not including *end*, which *owner* can become."""

    start: int
    end: int
    owner: int


class Subordinates:
    """The subordinate uids and their owners."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        """Take *ranges*. If two overlap, the uids in both belong to the one that begins first."""
        self._ranges: list[Range] = []
        end = 0
        for one in sorted(ranges):
            start = max(one.start, end)
            if start < one.end:
                self._ranges.append(one._replace(start=start))
                end = one.end
        self._starts = [one.start for one in self._ranges]

    def owner(self, uid: int) -> int | None:
        """Return the user who can become *uid*, or None if it is in no range."""
        at = bisect_right(self._starts, uid) - 1
        if at < 0 or uid >= self._ranges[at].end:
            return None
        return self._ranges[at].owner

    def first_in(self, uids: range) -> Range | None:
        """Return the first range that has any of *uids*, or None."""
        fitting = (one for one in self._ranges if one.start < uids.stop and uids.start < one.end)
        return next(fitting, None)


def read_subordinates(path: str = SUBUID_PATH) -> Subordinates:
    """Read *path*; skip what cannot be read or parsed. May wait for a name service."""
    try:
        text = read_roots_file(path, MAX_SUBUID_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return Subordinates()
    except (OSError, PolicyError) as error:
        log(WARNING, f"no subordinate uid has an owner: '{path}' cannot be used: {error}, ignoring")
        return Subordinates()
    return Subordinates(_ranges(text))


def _ranges(text: str) -> Iterator[Range]:
    """Yield the ranges in *text*, which has a line "OWNER:START:COUNT" for each."""
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


def user_name(uid: int) -> str | None:
    """Return the name of *uid*, or None if it has none. May wait for a name service."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def group_name(gid: int) -> str | None:
    """Return the name of *gid*, or None if it has none. May wait for a name service."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return None
