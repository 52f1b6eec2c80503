# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a libvirt domain document to plain values by the keys of the native form.

What the model does not know is found here: each element and attribute has either a field, or an
entry on the list of what is passed over with a reason (``ignored``), or it is refused by its XPath.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from bpferry.domain.binding import NAMESPACES, PATHS, WORDS, Form, Table
from bpferry.domain.ignored import is_ignored
from bpferry.domain.origins import Origins, Place
from bpferry.domain.refused import find_reason
from bpferry.domain.shape import Field, Node, fields_of, shape_of
from bpferry.domain.sizes import parse_size
from bpferry.errors import BadInput, Unsupported

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

PREFIXES: Final = {uri: prefix for prefix, uri in NAMESPACES.items()}

LEAF_ATTRIBUTES: Final = {Form.SIZE: "unit", Form.STATE: "state"}
"""The one attribute that an element with text of this form may have."""


@dataclass(slots=True)
class XmlReader:
    """Reads one document. What is refused is collected, so that all of it can be named at once."""

    path: Path
    lines: "dict[Element, int]"
    prefixes: dict[str, str]
    """The document's own prefix for each namespace."""
    origins: Origins
    refusals: list[Unsupported] = field(default_factory=list)

    def read(self, table: type[Table], element: "Element") -> dict[str, object]:
        """Return the values of *element*, the root of the document, which *table* describes."""
        return self._table(table, element, f"/{self._name(element)}", "")

    def _table(
        self, table: type[Table], element: "Element", xpath: str, key: str
    ) -> dict[str, object]:
        values: dict[str, object] = {}
        self._note(key, element, xpath)
        self._walk(shape_of(table), element, xpath, _Target(values, key))
        for bound in fields_of(table):
            if bound.at.absent is not msgspec.UNSET:
                values.setdefault(bound.key, msgspec.to_builtins(bound.at.absent))
        return values

    def _walk(self, node: Node, element: "Element", xpath: str, target: "_Target") -> None:
        leaf = LEAF_ATTRIBUTES.get(node.text.at.form) if node.text else None
        if any(bound.at.form is Form.SIZE for bound in node.attributes.values()):
            leaf = LEAF_ATTRIBUTES[Form.SIZE]
        for name, text in element.attrib.items():
            bound = node.attributes.get(self._canonical(name))
            if name == leaf:
                continue
            if bound is None:
                self._refuse(f"{xpath}/@{name}", element)
            else:
                self._put(bound, text, f"{xpath}/@{name}", element, target)
        self._text(node, element, xpath, target)
        total = Counter(child.tag for child in element)
        seen: Counter[str] = Counter()
        for child in element:
            seen[child.tag] += 1
            place = f"[{seen[child.tag]}]" if total[child.tag] > 1 else ""
            child_xpath = f"{xpath}/{self._name(child)}{place}"
            self._child(node, child, child_xpath, target, repeated=seen[child.tag] > 1)

    def _child(
        self, node: Node, child: "Element", xpath: str, target: "_Target", *, repeated: bool
    ) -> None:
        known = node.children.get(self._canonical(child.tag))
        if known is None:
            self._refuse(xpath, child)
            return
        many = known.many or (known.table if known.table and known.table.many else None)
        if repeated and many is None:
            self._refuse(xpath, child, "stands there for the second time")
        elif known.table is not None:
            self._nested(known.table, child, xpath, target)
        else:
            self._walk(known, child, xpath, target)

    def _nested(self, bound: Field, child: "Element", xpath: str, target: "_Target") -> None:
        assert bound.table is not None  # noqa: S101 - the caller has looked
        key = target.key_of(bound)
        target.put(bound, self._table(bound.table, child, xpath, key))

    def _text(self, node: Node, element: "Element", xpath: str, target: "_Target") -> None:
        """Take what stands between the tags; space around it, and nothing at all, say nothing."""
        text = (element.text or "").strip()
        bound = node.text
        if bound is None:
            if text:
                self._refuse(xpath, element, f"has text, '{text[:40]}', where none is expected")
        elif bound.at.form is Form.PRESENT and not text:
            self._note(target.key_of(bound), element, xpath)
            target.put(bound, value=True)
        elif text or bound.at.form not in (Form.PLAIN, *PATHS):
            self._put(bound, text, xpath, element, target)

    def _put(
        self, bound: Field, text: str, xpath: str, element: "Element", target: "_Target"
    ) -> None:
        self._note(target.key_of(bound), element, xpath)
        try:
            target.put(bound, self._value(bound, text, element))
        except ValueError as error:
            raise self._bad(xpath, element, text, str(error)) from error

    def _value(self, bound: Field, text: str, element: "Element") -> object:
        form = bound.at.form
        if form is Form.SIZE:
            return parse_size(text, element.get("unit", bound.at.unit))
        if form is Form.STATE:
            text = element.get("state", "on")
        if form in WORDS:
            return _truth(form, text.strip())
        text = dict(bound.at.words).get(text, text)
        if form in PATHS and text:
            return str(self.path.absolute().parent / text)
        return parse_number(text) if bound.scalar is int else text

    def _note(self, key: str, element: "Element", xpath: str) -> None:
        self.origins.places.setdefault(key, Place(xpath, self.lines.get(element, 0)))

    def _refuse(self, xpath: str, element: "Element", what: str = "") -> None:
        if is_ignored(xpath):
            return
        line = self.lines.get(element, 0)
        value = ""
        if xpath.rpartition("/")[2].startswith("@"):
            value = f" (here '{element.get(xpath.rpartition('@')[2], '')[:40]}')"
        sentence = what or f"is nothing that bpferry does{value}"
        hint = "take it out, or leave out all such things with --ignore-unsupported"
        reason = find_reason(xpath)
        if reason is not None and not what:
            sentence, hint = f"{sentence}: {reason[0]}", reason[1]
        message = f"'{self.path}':{line}: '{xpath}' {sentence}"
        self.refusals.append(Unsupported(message, hint, xpath))

    def _bad(self, xpath: str, element: "Element", text: str, why: str) -> BadInput:
        line = self.lines.get(element, 0)
        return BadInput(
            f"'{self.path}':{line}: '{xpath}' is '{text.strip()[:40]}': {why}", element=xpath
        )

    def _canonical(self, tag: str) -> str:
        """Return *tag* as the model writes it, with the model's own prefix."""
        uri, brace, name = tag.removeprefix("{").rpartition("}")
        return f"{PREFIXES.get(uri, uri)}:{name}" if brace else tag

    def _name(self, element: "Element") -> str:
        """Return the name of *element* as the document writes it."""
        uri, brace, name = element.tag.removeprefix("{").rpartition("}")
        prefix = self.prefixes.get(uri, "")
        return f"{prefix}:{name}" if brace and prefix else name


@dataclass(slots=True)
class _Target:
    """The values of one element of the model, and the key under which it stands."""

    values: dict[str, object]
    key: str

    def key_of(self, bound: Field) -> str:
        """Return the key of the next value of *bound*."""
        prefix = f"{self.key}." if self.key else ""
        if not bound.many:
            return prefix + bound.key
        have = self.values.get(bound.key, [])
        assert isinstance(have, list)  # noqa: S101 - put() made it
        return f"{prefix}{bound.key}[{len(have)}]"

    def put(self, bound: Field, value: object) -> None:
        """Add *value*."""
        if not bound.many:
            self.values[bound.key] = value
            return
        have = self.values.setdefault(bound.key, [])
        assert isinstance(have, list)  # noqa: S101 - as above
        have.append(value)


def _truth(form: Form, text: str) -> bool:
    words = WORDS[form]
    if text not in words:
        raise ValueError(f"possible are {' and '.join(words)}")
    return words[text]


def parse_number(text: str) -> int:
    """Return the number that *text* writes in decimal, or in hexadecimal after ``0x``.

    Raises:
        ValueError: it is no such number.
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
