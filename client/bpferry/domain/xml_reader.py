# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a libvirt domain document to the model.

Each value is checked against the type of its field when it is read, so that an unsupported word or
number is refused at once, and reading goes on. What the model does not know is found here too: each
element and attribute has a field, or an entry on the list of what is ignored and why (``ignored``),
or it is refused by its XPath.

A table that needs what was refused is left out with it. Anything else that is refused or wrong in
that table is not reported then: it is gone with the rest. A table that needs what is wrong, such as
letters for a number, is read to its end, so that all of its mistakes are reported at once.
"""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, TypeVar

from msgspec import Struct, field

from bpferry.domain.binding import NAMESPACES, PATHS, Form, Table
from bpferry.domain.bounds import is_possible
from bpferry.domain.ignored import is_ignored, is_partly_ignored, passed_over_in, reason_of
from bpferry.domain.origins import Origins, PassedOver, Place
from bpferry.domain.shape import Field, Node, shape_of
from bpferry.domain.spots import Spot
from bpferry.domain.unfinished import Unfinished
from bpferry.domain.xml_values import parse_value
from bpferry.errors import BadInput, Unsupported

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

T = TypeVar("T", bound=Table)

PREFIXES: Final = {uri: prefix for prefix, uri in NAMESPACES.items()}

LEAF_ATTRIBUTES: Final = {Form.SIZE: "unit", Form.STATE: "state"}
"""The one attribute that an element with text of this form may have."""

MOST_TEXT: Final = 40
"""Letters of stray text in a message."""

MANY: Final = 30
"""After this many refusals, no more are compared with what is possible."""


class Missing(BadInput):
    """Something is not there, perhaps since what is there is refused."""


class XmlReader(Struct):
    """Reads one document. Refusals are collected, so that all of them can be reported at once."""

    lines: "dict[Element, int]"
    prefixes: dict[str, str]
    """The document's own prefix for each namespace."""
    origins: Origins
    refusals: list[Unsupported] = field(default_factory=list)
    faults: list[BadInput] = field(default_factory=list)
    """What libvirt would not take either."""
    passed_over: list[PassedOver] = field(default_factory=list)
    """What was ignored, with the reason."""
    _passed_over: frozenset[str] = frozenset()
    """What is ignored in the current table, by path."""
    _siblings: tuple[str, ...] = ()
    """The elements with text that are possible where the last one was read."""

    def read(self, table: type[T], root: "Element") -> T | None:
        """Return the *table* that *root* describes; None if errors leave nothing of it."""
        path = f"/{self._name(root.tag)}"
        return self._table(table, self._spot(root, path, path), "", is_entry=True)

    def _table(self, table: type[T], spot: Spot, key: str, *, is_entry: bool) -> T | None:
        before, passed_over = self._count(), self._passed_over
        self._note(key, spot)
        self._passed_over = passed_over_in(spot.path, spot.element.attrib)
        target = Unfinished(key, is_entry=is_entry)
        self._walk(shape_of(table), spot, target)
        self._passed_over = passed_over
        found = None if target.lost_by else self._build(table, spot, target)
        if target.lost_by:
            self._undo(before)
            lost = target.lost_by
            self.refusals.append(lost.taking(spot.xpath))
        return found

    def _note(self, key: str, spot: Spot) -> None:
        """Keep the place of *key*; a list is where its first entry is."""
        self.origins.note(key, spot.place)
        if key.endswith("]"):
            self.origins.note(key.rpartition("[")[0], spot.place)

    def _count(self) -> tuple[int, int, int]:
        return len(self.refusals), len(self.faults), len(self.origins.places)

    def _undo(self, before: tuple[int, int, int]) -> None:
        """Forget what was found since the counts were *before*."""
        refusals, faults, places = before
        del self.refusals[refusals:]
        del self.faults[faults:]
        self.origins.forget(places)

    def _build(self, table: type[T], spot: Spot, target: Unfinished) -> T | None:
        missing = target.find_missing(table)
        for bound in missing:
            self._miss(spot, bound.at.path)
        return None if missing or target.is_lost else target.build(table)

    def _walk(self, node: Node, spot: Spot, target: Unfinished) -> None:
        """Read *spot*, until something is refused that its table cannot be without."""
        self._attributes(node, spot, target)
        self._text(node, spot, target)
        total = Counter(child.tag for child in spot.element)
        seen: Counter[str] = Counter()
        for child in spot.element:
            if target.lost_by:
                return
            seen[child.tag] += 1
            place = f"[{seen[child.tag]}]" if total[child.tag] > 1 else ""
            name = f"/{self._name(child.tag)}"
            path = f"{spot.path}/{self._canonical(child.tag)}"
            below = self._spot(child, f"{spot.xpath}{name}{place}", path)
            if path in self._passed_over or f"{spot.path}/*" in self._passed_over:
                self._pass_over(below)
            else:
                self._child(node, below, target, repeated=seen[child.tag] > 1)

    def _attributes(self, node: Node, spot: Spot, target: Unfinished) -> None:
        leaf = LEAF_ATTRIBUTES.get(node.text.at.form) if node.text else None
        if any(bound.at.form is Form.SIZE for bound in node.attributes.values()):
            leaf = LEAF_ATTRIBUTES[Form.SIZE]
        for name, text in spot.element.attrib.items():
            canonical = self._canonical(name)
            bound = node.attributes.get(canonical)
            here = spot.attribute(self._name(name), canonical, text)
            if here.path in self._passed_over:
                self._pass_over(here)
                continue
            if name == leaf:
                continue
            if bound is None:
                self._refuse(here, node.attributes, "@")
            elif text.strip() or not bound.at.blank:
                self._put(bound, here, target)
        for name, bound in node.attributes.items():
            if bound.at.demanded and spot.element.get(name) is None:
                self._miss(spot, f"@{name}")

    def _child(self, node: Node, spot: Spot, target: Unfinished, *, repeated: bool) -> None:
        known = node.children.get(spot.path.rpartition("/")[2])
        if known is None and is_partly_ignored(spot.path):
            self._walk(Node(), spot, target)
            return
        if known is None:
            self._refuse(spot, node.children)
            return
        many = known.many or (known.table if known.table and known.table.many else None)
        if repeated and many is None:
            self._refuse(spot, why="there can be one only")
        elif known.table is not None and not known.table.many and known.table.name in target.values:
            self._refuse(spot, why=f"'{known.table.at.path}' sets this already")
        elif known.table is not None:
            self._nested(known.table, spot, target)
        else:
            self._siblings = tuple(name for name, one in node.children.items() if one.text)
            self._walk(known, spot, target)

    def _nested(self, bound: Field, spot: Spot, target: Unfinished) -> None:
        assert bound.table is not None  # noqa: S101 - the caller has looked
        self._siblings = ()
        told = len(self.refusals)
        found = self._table(bound.table, spot, target.key_of(bound), is_entry=bound.many)
        if found is None:
            target.lose(bound, self.refusals[-1] if len(self.refusals) > told else None)
        else:
            target.put(bound, found)

    def _text(self, node: Node, spot: Spot, target: Unfinished) -> None:
        """Take the text of the element, without the spaces around it unless they are part of it."""
        whole, bound = spot.element.text or "", node.text
        text = whole if whole.strip() and bound and bound.at.verbatim else whole.strip()
        if bound is None or bound.at.form is Form.PRESENT:
            self._refuse_text(spot)
        if bound is None:
            return
        if bound.at.form is Form.PRESENT:
            self.origins.note(target.key_of(bound), spot.place)
            target.put(bound, value=True)
        elif text or bound.at.form not in (Form.PLAIN, Form.SECRET, *PATHS):
            self._put(bound, spot.with_text(text), target)

    def _refuse_text(self, spot: Spot) -> None:
        """Refuse text before, between or after the elements in *spot*."""
        texts = (spot.element.text, *(child.tail for child in spot.element))
        text = next((text.strip() for text in texts if text and text.strip()), "")
        if text and not is_ignored(spot.path):
            from bpferry.domain.refusals import refuse_text  # noqa: PLC0415 - as in _put

            known = self._siblings if len(self.refusals) < MANY and not len(spot.element) else ()
            self.refusals.append(refuse_text(spot, text[:MOST_TEXT], known))

    def _put(self, bound: Field, spot: Spot, target: Unfinished) -> None:
        """Put the text of *spot* into *bound*, or refuse it."""
        key = target.key_of(bound)
        try:
            value = parse_value(bound, spot.text, spot.element, self.origins.path)
        except ValueError as error:
            message = f"{spot} is '{spot.shown}': {error}"
            hint = "write a value that is possible, or leave it out"
            self.faults.append(BadInput(message, hint, spot.xpath))
            target.lose(bound, None)
            return
        if value is not None and is_possible(bound, value):
            self._note(key, spot)
            target.put(bound, value)
            return
        from bpferry.domain.refusals import refuse_value  # noqa: PLC0415 - with its reasons, for few

        refusal = refuse_value(bound, spot, look=len(self.refusals) < MANY)
        self.refusals.append(refusal)
        target.lose(bound, refusal)

    def _pass_over(self, spot: Spot) -> None:
        self.passed_over.append(PassedOver(spot.place, reason_of(spot.path)))

    def _miss(self, spot: Spot, path: str) -> None:
        wanted = f"{spot.xpath}/{path}".removesuffix("/.")
        where = f"'{spot.document}':{spot.place.line}"
        self.faults.append(Missing(f"{where}: '{wanted}' is missing", element=wanted))

    def _refuse(
        self, spot: Spot, known: Iterable[str] = (), sign: str = "", *, why: str = ""
    ) -> None:
        """Refuse what has no field; *known* is what is possible there, after *sign*."""
        if is_ignored(spot.path):
            self._pass_over(spot)
            return
        from bpferry.domain.refusals import refuse_place  # noqa: PLC0415 - as in _put

        # Looking for similar words takes time, and a document must not be able to make it long.
        near = [f"{sign}{name}" for name in known] if len(self.refusals) < MANY else ()
        self.refusals.append(refuse_place(spot, near, why))

    def _spot(self, element: "Element", xpath: str, path: str) -> Spot:
        place = Place(xpath, self.lines.get(element, 0))
        return Spot(self.origins.path, element, place, path)

    def _canonical(self, tag: str) -> str:
        """Return *tag* as the model writes it, with the model's own prefix."""
        uri, brace, name = tag.removeprefix("{").rpartition("}")
        return f"{PREFIXES.get(uri, uri)}:{name}" if brace else tag

    def _name(self, tag: str) -> str:
        """Return *tag* as the document writes it."""
        uri, brace, name = tag.removeprefix("{").rpartition("}")
        prefix = self.prefixes.get(uri, "")
        return f"{prefix}:{name}" if brace and prefix else name
