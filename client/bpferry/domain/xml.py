# SPDX-License-Identifier: LGPL-2.1-or-later
"""The text of a libvirt domain document: parsed without entities, and written.

defusedxml refuses document types, entities and external references, which is what the attacks on
XML parsers are made of. Nesting costs nothing here: only what the model knows is walked into.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bpferry.domain.binding import Table
from bpferry.domain.origins import Origins
from bpferry.domain.xml_reader import XmlReader
from bpferry.errors import BadInput, Unsupported

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


def parse(raw: bytes, path: Path, table: type[Table]) -> "Parsed":
    """Return the values of the document *raw*, whose root *table* describes.

    Raises:
        BadInput: it is no XML, or holds what no document needs, such as a DTD.
    """
    root, lines, prefixes = _tree(raw, path)
    if root.tag != "domain":
        raise BadInput(
            f"'{path}': expected a libvirt domain document, found an element '{root.tag[:60]}'",
            "give a file whose outermost element is <domain>",
        )
    reader = XmlReader(path, lines, prefixes, Origins(path))
    values = reader.read(table, root)
    return Parsed(values, reader.origins, reader.refusals)


class Parsed:
    """What came of a document: values by key, where they stood, and what is not supported."""

    __slots__ = ("origins", "refusals", "values")

    def __init__(
        self, values: dict[str, object], origins: Origins, refusals: list[Unsupported]
    ) -> None:
        self.values = values
        self.origins = origins
        self.refusals = refusals


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
            """Keep a namespace."""
            prefixes[uri] = prefix

    parser = DefusedXMLParser(target=Builder(), forbid_dtd=True)
    try:
        parser.feed(raw)
        return parser.close(), lines, prefixes
    except DefusedXmlException as error:
        raise BadInput(
            f"'{path}' is refused: it declares a document type or entities ({error})",
            "a domain document needs neither; take the declaration out",
        ) from error
    except (ParseError, ValueError, LookupError) as error:
        raise BadInput(f"'{path}' is not valid XML: {error}") from error


def format_tree(root: "Element") -> str:
    """Return *root* as the text of a document."""
    from xml.etree.ElementTree import ElementTree, indent  # noqa: PLC0415

    indent(root)
    out = io.BytesIO()
    ElementTree(root).write(out, encoding="utf-8")
    return out.getvalue().decode() + "\n"
