# SPDX-License-Identifier: LGPL-2.1-or-later
"""The README's session at a console, replayed on terminals with a real guest."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.terminals import Person, at_terminal, vm_file

pytestmark = pytest.mark.qemu

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")

SESSION = re.search(
    r"<!-- bpferry run, detached from and attached to -->\n```text\n(.*?)^```",
    README,
    re.MULTILINE | re.DOTALL,
)

ACCELERATOR = re.compile("starts with (KVM|TCG.*)")


def shown(command: str) -> list[str]:
    """Return what bpferry says in the README after *command*."""
    assert SESSION is not None
    _, _, rest = SESSION[1].partition(f"$ bpferry {command}\n")
    lines = rest.partition("\n$ ")[0].splitlines()
    return [_plain(line) for line in lines if line.startswith("bpferry: ")]


def said(person: Person, name: str) -> Iterator[str]:
    """Yield what bpferry says on a terminal, about 'web'."""
    for line in person.seen().decode().splitlines():
        # What it is doing before, and where the QMP socket is, are not in the README.
        left_out = line.endswith("...") or line.startswith("bpferry: qmp: ")
        if line.startswith("bpferry: ") and not left_out:
            yield _plain(line.replace(name, "web"))


def _plain(line: str) -> str:
    return ACCELERATOR.sub("starts", re.sub(r"goes back: d?$", "goes back:", line))


def detach(person: Person) -> None:
    """Leave with the keys of the README, once the guest has written something."""
    assert person.sees(b"hello from the boot sector\r")
    person.types(b"\x1d")
    assert person.sees(b"any other key goes back: ")
    person.types(b"d")
    assert person.status() == 0
    assert person.sees(b" keeps running")
    assert person.sees(b"\n", 1)


def test_session_of_the_readme(tmp_path: Path) -> None:
    """Each line of bpferry's is as there, with the name of the VM in place of 'web'."""
    with vm_file(tmp_path) as (file, name):
        for command, words in (("run web.toml", ("run", file)), ("console web", ("console", name))):
            with at_terminal(*words) as person:
                detach(person)
                assert shown(command) == list(said(person, name))
