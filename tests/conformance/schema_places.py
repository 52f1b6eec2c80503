# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every element and attribute that libvirt's schema allows in a domain document, with its words.

The schema is RELAX NG: definitions that name each other, some of them in a circle. Each definition
is followed at most twice on one path, so that an image may be below an image.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lxml import etree

RNG: Final = "{http://relaxng.org/ns/structure/1.0}"

PREFIXES: Final = {"http://libvirt.org/schemas/domain/qemu/1.0": "qemu:"}

TWICE: Final = 2


class Schema:
    """libvirt's schema of domain documents."""

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        self._definitions: dict[str, list[etree._Element]] = {}
        self._starts: list[etree._Element] = []
        self.places: dict[str, set[str]] = {}
        """XPath without numbers to the words that are possible; none where any text is."""
        self._load(etree.parse(path).getroot())
        for start in self._starts:
            self._walk_all(start, "", ())
        self.places = {
            path: words for path, words in self.places.items() if path.startswith("/domain/")
        }

    def _load(self, root: etree._Element) -> None:
        for part in root:
            kind = _kind(part)
            if kind == "include":
                self._load(etree.parse(self._folder / part.get("href", "")).getroot())
            if kind in ("include", "div"):
                self._load(part)
            elif kind == "define":
                self._definitions.setdefault(part.get("name", ""), []).append(part)
            elif kind == "start":
                self._starts.append(part)

    def _walk_all(self, parts: etree._Element, path: str, way: tuple[str, ...]) -> None:
        for part in parts:
            self._walk(part, path, way)

    def _walk(self, part: etree._Element, path: str, way: tuple[str, ...]) -> None:
        kind = _kind(part)
        if kind == "ref":
            name = part.get("name", "")
            if way.count(name) < TWICE:
                for definition in self._definitions.get(name, ()):
                    self._walk_all(definition, path, (*way, name))
        elif kind in ("element", "attribute"):
            sign = "@" if kind == "attribute" else ""
            below = f"{path}/{sign}{_name(part)}"
            self.places.setdefault(below, set())
            self._walk_all(part, below, way)
        elif kind == "value":
            self.places[path].add(part.text or "")
        else:
            self._walk_all(part, path, way)


def _kind(part: etree._Element) -> str:
    return str(part.tag).removeprefix(RNG)


def _name(part: etree._Element) -> str:
    named = part.find(f"{RNG}name")
    name = part.get("name") or (named.text if named is not None else None) or "any"
    # The name of an attribute has no namespace but its own (RELAX NG, 4.8).
    around = () if _kind(part) == "attribute" else part.iterancestors()
    spaces = [one.get("ns") for one in (part, *around) if one.get("ns") is not None]
    return PREFIXES.get(spaces[0] or "", "") + name if spaces else name


def outermost(paths: list[str]) -> Iterator[str]:
    """Yield those of *paths*, in order, that are below no other."""
    last = "nothing"
    for path in sorted(paths, key=lambda path: path.split("/")):
        if not path.startswith(f"{last}/"):
            yield path
            last = path
