# SPDX-License-Identifier: LGPL-2.1-or-later
"""Why a place in a libvirt document is refused, and what to do instead.

What the model does not know is refused by its path in any case. ``reasons`` says why for things
that people have in their documents. The longest path that matches counts, and covers everything
below it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from bpferry.domain.patterns import Patterns
from bpferry.domain.reasons.cards import CARDS
from bpferry.domain.reasons.devices import ALL as DEVICES
from bpferry.domain.reasons.disks import DISKS
from bpferry.domain.reasons.system import SYSTEM
from bpferry.domain.reasons.words import Reason

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})

REFUSED: Final[Mapping[str, Reason]] = MappingProxyType({**SYSTEM, **CARDS, **DISKS, **DEVICES})
"""By pattern: why, and what to do."""

PATTERNS: Final = Patterns(REFUSED)


def find_reason(
    path: str, attributes: Mapping[str, str] = NOTHING, text: str = ""
) -> Reason | None:
    """Return why *path* is refused, and what to do; None if it is not listed.

    *attributes* are those of the element, and *text* is the value of an attribute.
    """
    around, _, name = path.rpartition("/@")
    words = {name: text} if around else attributes
    for attribute, word in words.items():
        found = PATTERNS.find(f"{around or path}[@{attribute}='{word}']")
        if found is not None:
            return REFUSED[found]
    found = PATTERNS.find_around(path)
    return None if found is None else REFUSED[found]


def find_reason_of_value(path: str, text: str) -> Reason | None:
    """Return the same for the value *text* of a place that is itself supported."""
    around, _, name = path.rpartition("/@")
    word = f"{around}[@{name}='{text}']" if around else f"{path}[.='{text}']"
    found = PATTERNS.find(word) or PATTERNS.find(path)
    return None if found is None else REFUSED[found]
