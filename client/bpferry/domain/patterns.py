# SPDX-License-Identifier: LGPL-2.1-or-later
"""Patterns of places in a libvirt document.

A pattern is an XPath without numbers. ``*`` matches any part of one step, ``**`` matches one step
or more. A step with ``[@name='word']`` is an element with that attribute, and ``[.='word']`` is one
with that text.
"""

import re
from collections.abc import Iterable
from functools import cached_property, lru_cache


class Patterns:
    """A set of patterns, to find which of them matches a place."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = tuple(patterns)
        self._exact = frozenset(self._patterns)
        # Documents have the same places again and again.
        self.find = lru_cache(4096)(self._find)

    @cached_property
    def _wild(self) -> list[tuple[re.Pattern[str], str]]:
        """Those with a star, compiled when a document first has something that no other matches."""
        return [(re.compile(_expression(one)), one) for one in self._patterns if "*" in one]

    def _find(self, place: str) -> str | None:
        """Return the pattern that matches *place*; one without a star before all others."""
        if place in self._exact:
            return place
        return next((one for wild, one in self._wild if wild.fullmatch(place)), None)

    def find_around(self, path: str) -> str | None:
        """Return the pattern that matches *path*, or else the nearest element around it."""
        while path:
            found = self.find(path)
            if found is not None:
                return found
            path = path.rpartition("/")[0]
        return None


def _expression(pattern: str) -> str:
    return re.escape(pattern).replace(r"\*\*", ".+").replace(r"\*", "[^/]+")
