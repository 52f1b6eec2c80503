# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whatever libvirt's schema allows is supported, passed over with a reason, or refused with one."""

import re
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element

import pytest

from bpferry.domain.bounds import is_possible
from bpferry.domain.ignored import is_ignored, is_partly_ignored, passed_over_in
from bpferry.domain.model.machine import Machine
from bpferry.domain.patterns import Patterns
from bpferry.domain.refused import REFUSED, find_reason, find_reason_of_value
from bpferry.domain.shape import Field, Node, shape_of
from bpferry.domain.xml_reader import LEAF_ATTRIBUTES
from bpferry.domain.xml_values import parse_value
from tests import requires
from tests.conformance.schema_places import Schema, outermost

LEAST_PLACES: Final = 3000
"""So many places the schema has at the least; otherwise this says little."""

NUMBER: Final = re.compile(r"\[@(\w+)='\d+'\]$")
"""A value that the schema does not list, since any number is allowed there."""


@pytest.fixture(scope="module")
def places() -> dict[str, set[str]]:
    """Read the schema once."""
    return Schema(requires.schema()).places


def node_of(path: str) -> Node | None:
    """Return the element *path* of the model."""
    node: Node | None = shape_of(Machine)
    for step in path.split("/")[2:]:
        node = node.children.get(step) if node else None
        if node and node.table and node.table.table:
            node = shape_of(node.table.table)
    return node


def is_known(path: str) -> bool:
    """Say whether the model has a place for *path*."""
    around, _, attribute = path.rpartition("/@")
    node = node_of(around or path)
    if node is None or not around:
        return node is not None
    sizes = any(
        LEAF_ATTRIBUTES.get(bound.at.form) == attribute
        for bound in (*node.attributes.values(), *([node.text] if node.text else ()))
    )
    return attribute in node.attributes or sizes


def field_of(path: str) -> Field | None:
    """Return the field of the model that is *path*."""
    around, _, attribute = path.rpartition("/@")
    node = node_of(around or path)
    if node is None:
        return None
    return node.attributes.get(attribute) if around else node.text


def is_taken(bound: Field, word: str) -> bool:
    """Say whether *word* is supported where *bound* is."""
    try:
        value = parse_value(bound, word, Element("x"), Path("/vm.xml"))
    except ValueError:
        return False
    return value is not None and is_possible(bound, value)


def test_every_place_that_is_refused_has_a_reason(places: dict[str, set[str]]) -> None:
    """No user is left with "not supported" alone for what is libvirt's."""
    unknown = [path for path in places if not is_known(path) and not is_ignored(path)]
    silent = [
        path
        for path in outermost(unknown)
        if find_reason(path) is None and not is_partly_ignored(path)
    ]

    assert [] == silent
    assert len(places) > LEAST_PLACES


def test_every_word_that_is_refused_has_a_reason(places: dict[str, set[str]]) -> None:
    """As above, for the words of what is supported as such."""
    silent = [
        (path, word)
        for path, words in places.items()
        for word in sorted(words)
        if (bound := field_of(path)) is not None
        and not is_ignored(path)
        and not is_taken(bound, word)
        and find_reason_of_value(path, word) is None
    ]

    assert [] == silent


def test_no_reason_is_for_what_the_schema_does_not_have(places: dict[str, set[str]]) -> None:
    """Each entry is about a place or word of libvirt's."""
    everything = set(places)
    for path, words in places.items():
        around, _, attribute = path.rpartition("/@")
        if around:
            everything.update(f"{around}[@{attribute}='{word}']" for word in words)

    patterns = Patterns(REFUSED)
    of_numbers = {one for one in REFUSED if NUMBER.sub(r"/@\1", one) in places}
    assert set() == set(REFUSED) - of_numbers - {patterns.find(one) for one in everything}


def test_a_reason_is_not_missing_for_want_of_looking(places: dict[str, set[str]]) -> None:
    """The way of looking sees what is supported, and a place and a word that are not."""
    assert is_known("/domain/devices/disk/backingStore/backingStore/source/@file")
    assert is_known("/domain/memory/@unit")
    assert not is_known("/domain/devices/disk/@spaceship")
    assert "volume" in places["/domain/devices/disk/@type"]
    bound = field_of("/domain/devices/disk/@type")
    assert bound is not None
    assert [True, False] == [is_taken(bound, word) for word in ("file", "volume")]
    assert passed_over_in("/domain/features/hyperv", {"mode": "passthrough"})
