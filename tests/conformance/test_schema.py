# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt's own schema accepts what ``bpferry convert --to xml`` writes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from lxml import etree

from bpferry.domain.document import read_bytes, read_file, to_xml
from bpferry.errors import BpferryError
from tests import documents, requires

LEAST_READ: Final = 300
"""So many of libvirt's documents are read at the least; otherwise this says little."""


@pytest.fixture(scope="module")
def schema() -> etree.RelaxNG:
    """Load the schema once."""
    return etree.RelaxNG(file=str(requires.schema()))


def faults(schema: etree.RelaxNG, text: str) -> list[str]:
    """Return what the schema has against *text*."""
    schema.validate(etree.fromstring(text.encode()))
    return [f"{entry.line}: {entry.message}" for entry in schema.error_log]


@pytest.mark.parametrize("path", documents.ALL, ids=lambda path: path.name)
def test_our_own_documents(schema: etree.RelaxNG, path: Path) -> None:
    """Whole documents of either kind are sound when they are written as XML."""
    assert [] == faults(schema, to_xml(read_file(path).machine))


def pairs(schema: etree.RelaxNG) -> Iterator[Path]:
    """Yield the documents of libvirt's pairs that are read, and that its own schema accepts."""
    for path in sorted((requires.conformance() / "libvirt-11.3").glob("*.xml")):
        try:
            read_file(path)
        except BpferryError:
            continue
        if not faults(schema, path.read_text()):
            yield path


@pytest.mark.slow
def test_documents_of_the_pairs(schema: etree.RelaxNG) -> None:
    """Each document of libvirt's pairs that is read is written so that the schema accepts it."""
    wrong = {}
    count = 0
    for path in pairs(schema):
        written = to_xml(read_file(path).machine)
        found = faults(schema, written)
        count += 1
        if found:
            wrong[path.name] = found
        assert read_bytes(written.encode(), path).machine == read_file(path).machine

    assert {} == wrong
    assert count > LEAST_READ


def test_schema_sees_faults(schema: etree.RelaxNG) -> None:
    """The schema is in force: a document with an unknown element is refused."""
    path = next(path for path in documents.ALL if path.suffix == ".xml")
    text = to_xml(read_file(path).machine)

    assert faults(schema, text.replace("</name>", "</name><spaceship/>"))
