# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where each part of a VM was in its document, so that a message can name the place.

Everywhere in bpferry a part of a VM is called by its key in the native form, such as
``disks[0].cache``. It becomes the XPath and line of a document only when an error is reported.
"""

import re
from pathlib import Path
from typing import Final

from msgspec import Struct, field

STEP: Final = r"\.?([A-Za-z0-9_-]+)|\[(\d+)\]"
"""One step on the way to a value, such as ``.tap`` or ``[0]``."""

LAST_STEP = r"(?:\.|^)[^.\[\]]+$|\[\d+\]$"


class Place(Struct, frozen=True):
    """One place of a document."""

    element: str
    """An XPath in XML, a key in TOML."""
    line: int
    """From 1; 0 if it is not known."""


class PassedOver(Struct, frozen=True):
    """What a document says and nobody needs."""

    place: Place
    reason: str


class Origins(Struct):
    """The places of one document by the keys of the model."""

    path: Path
    places: dict[str, Place] = field(default_factory=dict)

    def note(self, key: str, place: Place) -> None:
        """Keep the first *place* of *key*."""
        self.places.setdefault(key, place)

    def forget(self, count: int) -> None:
        """Forget all places but the first *count*: the rest is not part of the VM any more."""
        while len(self.places) > count:
            self.places.popitem()

    def find(self, key: str) -> Place | None:
        """Return the place of *key*, or of the nearest part around it that the document has."""
        while key:
            if key in self.places:
                return self.places[key]
            shorter = re.sub(LAST_STEP, "", key)
            # A key that the user made up may not look like any of ours.
            key = shorter if len(shorter) < len(key) else ""
        return self.places.get("")

    def element_of(self, key: str) -> str:
        """Return the element of *key* as its document names it; the key itself if it has none."""
        place = self.find(key)
        return place.element if place else key

    def line_of(self, key: str) -> int:
        """Return the line of *key*; 0 if it is not known."""
        place = self.find(key)
        return place.line if place else 0

    def describe(self, key: str) -> str:
        """Return the file, and the line and element of *key* if they are known."""
        place = self.find(key)
        element = f": '{place.element}'" if place and place.element else ""
        return f"{self.describe_line(key)}{element}"

    def describe_line(self, key: str) -> str:
        """Return the file, and the line of *key* if it is known."""
        place = self.find(key)
        return f"'{self.path}':{place.line}" if place and place.line else f"'{self.path}'"
