# SPDX-License-Identifier: LGPL-2.1-or-later
"""The places of a libvirt document, one by one, while it is read."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from bpferry.domain.origins import Place

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_SHOWN: Final = 40
"""The most characters of a value that a message shows."""


class Spot(Struct, frozen=True):
    """One element or attribute of a document while it is read."""

    document: Path
    element: "Element"
    """The element itself, or the one that has the attribute."""
    place: Place
    path: str
    """The XPath without numbers, and with the model's own prefixes."""
    text: str = ""
    """The attribute's value, or the text between the tags."""

    def attribute(self, name: str, canonical: str, text: str) -> "Spot":
        """Return the spot of an attribute of this element, whose value is *text*.

        *name* is the document's, and *canonical* has the model's own prefix.
        """
        place = Place(f"{self.xpath}/@{name}", self.place.line)
        return Spot(self.document, self.element, place, f"{self.path}/@{canonical}", text)

    def with_text(self, text: str) -> "Spot":
        """Return the spot of this element with the text between its tags."""
        return Spot(self.document, self.element, self.place, self.path, text)

    @property
    def xpath(self) -> str:
        """The place as a reader of the document would look for it."""
        return self.place.element

    @property
    def is_attribute(self) -> bool:
        """Whether it is an attribute."""
        return self.name.startswith("@")

    @property
    def name(self) -> str:
        """The name of the element, or of the attribute with its @."""
        return self.path.rpartition("/")[2]

    @property
    def shown(self) -> str:
        """The text as a message shows it."""
        return self.text.strip()[:MAX_SHOWN]

    def __str__(self) -> str:
        """Return file, line and XPath, as messages begin."""
        return f"'{self.document}':{self.place.line}: '{self.xpath}'"
