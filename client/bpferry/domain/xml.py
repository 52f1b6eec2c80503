# SPDX-License-Identifier: LGPL-2.1-or-later
"""The text of a libvirt domain document: parsed without entities, and written.

defusedxml refuses document types, entities and external references, which attacks on XML parsers
are made of. Deep nesting costs nothing here: only what the model knows is walked into.
"""

import contextlib
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from msgspec import Struct

from bpferry.domain import vlan_tags
from bpferry.domain.binding import Table
from bpferry.domain.origins import Origins, PassedOver
from bpferry.domain.xml_reader import XmlReader
from bpferry.errors import BadInput, Unsupported

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element, ParseError

T = TypeVar("T", bound=Table)

AFTER_THE_END: Final = 9
"""XML_ERROR_JUNK_AFTER_DOC_ELEMENT of expat."""

FAULTS: Final = {
    2: ("an element has to begin here", "write <domain> at the beginning, and elements in it"),
    3: ("the document ends{}", "write the end tags that are missing, up to </domain>"),
    4: (
        "a character that cannot be here",
        "write &amp; in place of &, &lt; in place of <, name='value' for attributes, and UTF-8",
    ),
    5: ("a tag or comment is not closed", "write the > or --> that is missing"),
    7: ("this end tag is of another element{}", "close each element with its own end tag"),
    8: ("this element has an attribute twice", "remove one of the two"),
    AFTER_THE_END: ("something follows the end of the document", "remove what follows </domain>"),
    11: ("an entity that XML does not have", "write the character itself in place of &...;"),
    27: (
        "the prefix of this element or an attribute is not declared",
        "declare it, as in <domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>",
    ),
}
"""Mistakes that people make by expat's numbers (expat.h, XML_Error), and what to write. The gap is
for the element that is not closed."""


class Parsed(Struct, Generic[T], frozen=True):
    """What a document describes, where its parts were, and what is not supported."""

    table: T | None
    """None if nothing is left once what is wrong or not supported is left out."""
    origins: Origins
    refusals: tuple[Unsupported, ...]
    faults: tuple[BadInput, ...]
    """What libvirt would not take either."""
    passed_over: tuple[PassedOver, ...] = ()
    """What is ignored (``ignored``)."""


def parse(raw: bytes, path: Path, table: type[T]) -> Parsed[T]:
    """Return what the document *raw* describes; *table* is the class of its root.

    Raises:
        BadInput: it is not XML, or contains what no document needs, such as a DTD.
    """
    root, lines, prefixes = _tree(raw, path)
    if root.tag != "domain":
        raise BadInput(
            f"'{path}': expected a libvirt domain document, found an element '{root.tag[:60]}'",
            "give a file whose outermost element is <domain>",
        )
    vlan_tags.tell_apart(root)
    reader = XmlReader(lines, prefixes, Origins(path))
    try:
        found = reader.read(table, root)
    except RecursionError as error:
        raise BadInput(f"'{path}' cannot be read: it is nested too deeply") from error
    if reader.refusals:
        from bpferry.domain.global_quota import fill_in  # noqa: PLC0415 - seldom

        for refusal in reader.refusals:
            fill_in(refusal, root)
    return Parsed(
        found,
        reader.origins,
        tuple(reader.refusals),
        tuple(reader.faults),
        tuple(reader.passed_over),
    )


def _tree(raw: bytes, path: Path) -> "tuple[Element, dict[Element, int], dict[str, str]]":
    """Return the root, the line of each element, and the document's prefix of each namespace."""
    # Imported here, so that a TOML document does not pay for it.
    from xml.etree.ElementTree import ParseError, TreeBuilder  # noqa: PLC0415

    from defusedxml.common import DefusedXmlException  # noqa: PLC0415
    from defusedxml.ElementTree import DefusedXMLParser  # noqa: PLC0415

    lines: dict[Element, int] = {}
    prefixes: dict[str, str] = {}

    class Builder(TreeBuilder):
        """Keeps the line on which each element begins."""

        def start(self, tag: Any, attrs: Any, /) -> "Element":  # noqa: ANN401 - as its base
            element = super().start(tag, attrs)
            lines[element] = parser.parser.CurrentLineNumber
            return element

        def start_ns(self, prefix: str, uri: str, /) -> None:
            """Note a namespace and its prefix."""
            prefixes[uri] = prefix

    parser = DefusedXMLParser(target=Builder(), forbid_dtd=True)
    try:
        parser.feed(raw)
        return parser.close(), lines, prefixes
    except DefusedXmlException as error:
        raise BadInput(
            f"'{path}' is refused: it declares a document type or entities",
            "a domain document needs neither; remove the declaration (<!DOCTYPE ...>)",
        ) from error
    except (ParseError, ValueError, LookupError) as error:
        if isinstance(error, ParseError):
            _refuse_second(raw, path, error)
        raise _syntax(raw, path, error) from error


def _syntax(raw: bytes, path: Path, error: Exception) -> BadInput:
    """Return what the parser found, with its line in front as in all other messages."""
    position = getattr(error, "position", None)
    said = str(error).partition(": line ")[0]
    if position is None:
        return BadInput(f"'{path}' is not valid XML: {said}", "save it as UTF-8")
    what, hint = FAULTS.get(getattr(error, "code", 0), (said, ""))
    line, column = position
    if "{}" in what:
        what = what.format(_find_open(raw))
    return BadInput(f"'{path}':{line} is not valid XML: {what} (column {column + 1})", hint)


def _find_open(raw: bytes) -> str:
    """Return which element of *raw* was open when its first mistake came, as part of a sentence.

    A document type has been refused before.
    """
    from xml.parsers import expat  # noqa: PLC0415

    opened: list[tuple[str, int]] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda name, _: opened.append((name, parser.CurrentLineNumber))
    parser.EndElementHandler = lambda _: opened.pop()
    with contextlib.suppress(expat.ExpatError):
        parser.Parse(raw, True)  # noqa: FBT003 - expat takes no names
    return f"; <{opened[-1][0][:60]}> of line {opened[-1][1]} is not closed" if opened else ""


def _refuse_second(raw: bytes, path: Path, error: "ParseError") -> None:
    """Raise BadInput with a way out if one document follows another."""
    if error.code == AFTER_THE_END and len(re.findall(rb"<domain[\s>]", raw)) > 1:
        raise BadInput(
            f"'{path}':{error.position[0]}: a second <domain> begins here, and a file has one; "
            "virt-install prints one for each step: the first start, with the installer or "
            "cloud-init's disk, and then all later ones",
            "print one step only: 'virt-install --print-xml 2' for the installed system, "
            "'--print-xml 1' for the first start",
        ) from error


def format_tree(root: "Element") -> str:
    """Return *root* as the text of a document."""
    from xml.etree.ElementTree import ElementTree, indent  # noqa: PLC0415

    indent(root)
    out = io.BytesIO()
    ElementTree(root).write(out, encoding="utf-8")
    return out.getvalue().decode() + "\n"
