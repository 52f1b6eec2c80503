# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where each key of a native description is.

tomllib does not say where a value was. Headers and keys are at the beginning of a line in all but
odd documents, so lines are found by reading those; if that fails, no line is named.
"""

import re
from collections import Counter
from typing import Final

from bpferry.domain.origins import Place

HEADER: Final = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_.\s-]+?)\s*\]\]?\s*(?:#.*)?")
KEY: Final = re.compile(r"\s*([A-Za-z0-9_.-]+)\s*=")


def find_places(text: str) -> dict[str, Place]:
    """Return the line of each key of *text*, by the key's path from the root."""
    places: dict[str, Place] = {}
    counts: Counter[str] = Counter()
    prefix = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = HEADER.fullmatch(line)
        if header:
            prefix = _enter(header[2].replace(" ", ""), counts, many=header[1] == "[[")
            places.setdefault(prefix, Place(prefix, number))
            if prefix.endswith("]"):
                entries = prefix.rpartition("[")[0]
                places.setdefault(entries, Place(entries, number))
            continue
        found = KEY.match(line)
        if found:
            key = f"{prefix}.{found[1]}" if prefix else found[1]
            places.setdefault(key, Place(key, number))
    return places


def _enter(name: str, counts: Counter[str], *, many: bool) -> str:
    """Return the path to the table *name*, with its positions in lists."""
    way = ""
    *above, last = name.split(".")
    for step in above:
        way = f"{way}.{step}" if way else step
        if counts[way]:
            way = f"{way}[{counts[way] - 1}]"
    way = f"{way}.{last}" if way else last
    if many:
        counts[way] += 1
        return f"{way}[{counts[way] - 1}]"
    return way
