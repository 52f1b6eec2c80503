# SPDX-License-Identifier: LGPL-2.1-or-later
"""Man pages from the Markdown in docs/, so that there is one text for the web and for man(1).

A table becomes paragraphs with a tag in front: in 80 columns its cells would be a few words wide.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from manuals import roff

DOCS: Final = Path(__file__).resolve().parents[2] / "docs"


class Page(NamedTuple):
    """One page, and the file that it is made from."""

    name: str
    section: int
    summary: str
    source: str


PAGES: Final = (
    Page("bpferry.toml", 5, "descriptions of VMs", "documents.md"),
    Page("bpferry-policy.toml", 5, "who may do what with bpferry's helpers", "policy.md"),
    Page("bpferry-protocol", 7, "how clients talk to bpferry's helpers", "protocol.md"),
    Page("bpferry-helper", 8, "the privileged half of bpferry", "helper.md"),
)


def text_page(page: Page) -> str:
    """Return *page*."""
    tree = SyntaxTreeNode(
        MarkdownIt("commonmark")
        .enable("table")
        .parse((DOCS / page.source).read_text(encoding="utf-8"))
    )
    return roff.page(page.name, page.section, page.summary, _lines(tree))


def _lines(tree: SyntaxTreeNode) -> Iterator[str]:
    first = tree.children[1] if len(tree.children) > 1 else None
    if first is not None and first.type != "heading":
        yield roff.section("DESCRIPTION")
    for node in tree.children:
        # The title of the document is the name of the page.
        if node.tag != "h1":
            yield from _block(node)


def _block(node: SyntaxTreeNode) -> Iterator[str]:
    match node.type:
        case "heading":
            make = roff.section if node.tag == "h2" else roff.subsection
            yield make(
                _plain(node.children[0]).upper() if node.tag == "h2" else _plain(node.children[0])
            )
        case "paragraph":
            yield ".PP"
            yield from _inline(node)
        case "fence" | "code_block":
            yield from roff.literal(node.content)
        case "bullet_list" | "ordered_list":
            yield from _list(node)
        case "table":
            yield from _table(node)
        case _:
            raise ValueError(f"a man page cannot have '{node.type}' (line {node.map})")


def _list(node: SyntaxTreeNode) -> Iterator[str]:
    for number, item in enumerate(node.children, 1):
        yield f'.IP "{number}." 4' if node.type == "ordered_list" else ".IP \\(bu 2"
        for at, inner in enumerate(item.children):
            if inner.type == "paragraph" and not at:
                yield from _inline(inner)
            else:
                yield ".RS"
                yield from _block(inner)
                yield ".RE"


def _table(node: SyntaxTreeNode) -> Iterator[str]:
    """Yield each row: its first cell as the tag, or its first two if there are more than two."""
    rows = [
        [" ".join(_inline(cell)) for cell in row.children]
        for part in node.children
        for row in part.children
    ]
    titles = rows[0]
    for row in rows[1:]:
        cells = [_cell(title, text) for title, text in zip(titles, row, strict=True)]
        in_front = 1 if len(cells) <= 2 else 2  # noqa: PLR2004 - as the docstring says
        tag = "   ".join(filter(None, cells[:in_front]))
        yield from roff.tagged(tag, filter(None, ["; ".join(filter(None, cells[in_front:]))]))


def _cell(title: str, text: str) -> str:
    return f"(default: {text})" if title == "default" else text


def _inline(node: SyntaxTreeNode) -> Iterator[str]:
    """Yield the lines of what is in a paragraph or a cell."""
    text = "".join(_spans(child) for child in node.children)
    yield from (roff.line(one.strip()) for one in text.split("\n") if one.strip())


def _spans(node: SyntaxTreeNode) -> str:
    if node.type in ("softbreak", "hardbreak"):
        return "\n"
    make = SPANS.get(node.type)
    if make is None:
        raise ValueError(f"a man page cannot have '{node.type}'")
    return make(node)


def _link(node: SyntaxTreeNode) -> str:
    """Return the text of a link, and where it leads if that is outside of our documents."""
    shown, target = _inner(node), str(node.attrs["href"])
    if "://" not in target or roff.escape(target) == shown:
        return shown
    return f"{shown} ({roff.escape(target)})"


def _inner(node: SyntaxTreeNode) -> str:
    return "".join(_spans(child) for child in node.children)


def _plain(node: SyntaxTreeNode) -> str:
    return "".join(one.content for one in node.walk() if one.type in ("text", "code_inline"))


SPANS: Final[Mapping[str, Callable[[SyntaxTreeNode], str]]] = {
    "text": lambda node: roff.escape(node.content),
    "code_inline": lambda node: roff.bold(roff.escape(node.content)),
    "strong": lambda node: roff.bold(_inner(node)),
    "em": lambda node: roff.italic(_inner(node)),
    "link": _link,
    "inline": _inner,
}
