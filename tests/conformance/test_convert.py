# SPDX-License-Identifier: LGPL-2.1-or-later
"""What ``bpferry convert`` writes is read again as the same VM, for all documents at hand."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bpferry.domain.document import Document, read_bytes, read_file, to_toml, to_xml
from bpferry.domain.model.machine import Machine
from tests import documents, requires

LEAST_READ: Final = 400
"""So many documents are read at the least; otherwise this says little."""


def all_documents() -> Iterator[tuple[Path, Document]]:
    """Yield libvirt's documents and our own, without what is not supported."""
    for path in (*sorted((requires.conformance() / "libvirt-11.3").glob("*.xml")), *documents.ALL):
        yield path, read_file(path, ignore_unsupported=True)


def again(text: str, kind: str) -> Machine:
    """Return the VM of *text*, in which nothing may be refused."""
    found = read_bytes(text.encode(), Path(f"/vms/vm.{kind}"))
    assert () == found.ignored
    return found.machine


def test_converted_documents_are_the_same_vms() -> None:
    """From one form to the other and back, nothing is added, lost or refused."""
    changed = {}
    count = 0
    for path, document in all_documents():
        machine = document.machine
        from_toml = again(to_toml(machine), "toml")
        ways = {
            "TOML": from_toml == machine,
            "XML": again(to_xml(machine), "xml") == machine,
            "TOML, then XML": again(to_xml(from_toml), "xml") == machine,
            "XML, then TOML": again(to_toml(again(to_xml(machine), "xml")), "toml") == machine,
        }
        count += 1
        if not all(ways.values()):
            changed[path.name] = [way for way, same in ways.items() if not same]

    assert {} == changed
    assert count > LEAST_READ
