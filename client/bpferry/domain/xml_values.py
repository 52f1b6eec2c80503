# SPDX-License-Identifier: LGPL-2.1-or-later
"""From the text of one place of a libvirt domain document to a value."""

from pathlib import Path
from typing import TYPE_CHECKING

from bpferry.domain.binding import PATHS, WORDS, Form
from bpferry.domain.shape import Field
from bpferry.domain.sizes import parse_size

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


def parse_value(bound: Field, text: str, element: "Element", document: Path) -> object:
    """Return the value of *bound* that *text* has at *element*.

    A relative path begins at the folder of *document*. None is returned for a word that only the
    native form has.

    Raises:
        ValueError: it is malformed, such as letters for a number.
    """
    form = bound.at.form
    if form is Form.SIZE:
        return parse_size(text, element.get("unit", bound.at.unit))
    if form is Form.STATE:
        text = element.get("state", "on")
    if form in WORDS:
        return _truth(form, text.strip())
    if form in PATHS and text:
        return str(document.absolute().parent / text)
    if bound.scalar is int:
        return parse_number(text)
    ours = dict(bound.at.words)
    return ours.get(text, None if text in ours.values() else text)


def _truth(form: Form, text: str) -> bool:
    words = WORDS[form]
    if text not in words:
        raise ValueError(f"possible values: {', '.join(words)}")
    return words[text]


def parse_number(text: str) -> int:
    """Return the number that *text* is in decimal, or in hexadecimal after ``0x``.

    Raises:
        ValueError: it is not such a number.
    """
    stripped = text.strip()
    digits = stripped.removeprefix("-")
    try:
        if digits[:2].lower() == "0x" and "_" not in digits:
            return int(stripped, 16)
        if digits.isascii() and digits.isdigit() and len(digits) <= 30:  # noqa: PLR2004 - 2**64 has 20
            return int(stripped)
    except ValueError:
        pass
    raise ValueError("expected a whole number")
