# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hints are in the form that the user writes: no XML for TOML, and no TOML for XML."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import bpferry
from bpferry.domain.binding import Table
from bpferry.domain.forms import called, either, in_form
from bpferry.domain.model.cards import Card
from bpferry.domain.model.graphics import Graphics
from bpferry.domain.model.machine import Machine
from bpferry.domain.shape import fields_of

CODE: Final = Path(bpferry.__file__).parent

OF_ONE_FORM: Final = ("domain/reasons/", "domain/xml", "domain/refusals.py", "domain/ignored.py")
"""What is told of domain documents alone."""

OF_TOML: Final = ("domain/explain.py", "domain/shorthand", "domain/toml.py", "domain/checks.py",
                  "domain/toml_places.py", "domain/toml_syntax.py", "domain/unknown_keys.py",
                  "machine/secret_map.py")  # fmt: skip

BY_KIND: Final = (
    "cli/", "machine/steering_lint.py",
    "domain/document.py",  # reads each form in a function of its own
    "machine/creation/",  # writes TOML
    "machine/doctor/",  # is about the host and the helpers' policy
    "machine/serials.py",  # has no document, and says both
    "machine/control/queues.py",  # has a regular expression about QEMU's answers
    "launcher/typed.py",  # has one about its numbers
)  # fmt: skip
"""What knows the form, or is about no document."""

ELEMENT: Final = re.compile(r"<[a-zA-Z]+[ />]")
ASSIGNMENT: Final = re.compile(r"[a-z-]+ = |\[\[")
QUOTED: Final = re.compile(r"'([a-z]+-[a-z-]+)'")


def keys_of(table: type[Table], seen: set[type[Table]]) -> Iterator[tuple[str, str]]:
    """Yield the key of each field of *table* and below, and its name in XML."""
    if table in seen:
        return
    seen.add(table)
    for bound in fields_of(table):
        yield bound.key, bound.at.path.rpartition("/")[2].lstrip("@")
        if bound.table is not None:
            yield from keys_of(bound.table, seen)


TOML_ONLY: Final = {key for key, _ in keys_of(Machine, set())} - {
    name for _, name in keys_of(Machine, set())
}


def sentences() -> Iterator[tuple[str, str]]:
    """Yield each text of the client that is for users, with its place, but what `either` says."""
    for path in sorted(CODE.rglob("*.py")):
        place = str(path.relative_to(CODE))
        tree = ast.parse(path.read_text(encoding="utf-8"))
        apart = {id(node) for call in ast.walk(tree) if _is_apart(call) for node in ast.walk(call)}
        for node in ast.walk(tree):
            value = node.value if isinstance(node, ast.Constant) else None
            # What has a backslash is a regular expression.
            if isinstance(value, str) and id(node) not in apart and "\\" not in value:
                yield f"{place}:{getattr(node, 'lineno', 0)}", value


def _is_apart(node: ast.AST) -> bool:
    """Say whether *node* has texts in it that are settled, or for us alone."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "either"
    )


def test_no_sentence_has_words_of_one_form() -> None:
    """What a user is told of any document has words of both forms, or of none."""
    found = [
        (place, text)
        for place, text in sentences()
        if not place.startswith((*OF_ONE_FORM, *OF_TOML, *BY_KIND))
        and (
            ELEMENT.search(text)
            or ASSIGNMENT.search(text)
            or any(word in TOML_ONLY for word in QUOTED.findall(text))
        )
    ]

    assert found == []


@pytest.mark.parametrize(
    ("name", "toml", "xml"),
    [
        ("queues", "'queues'", "queues='...' in <driver>"),
        ("rss_hash_report", "'rss-hash-report'", "rss_hash_report='...' in <driver>"),
        ("port_forwards", "'port-forwards'", "<portForward>"),
        ("type", "'type'", "type='...'"),
    ],
)
def test_field_is_called_as_in_its_document(name: str, toml: str, xml: str) -> None:
    """Each form has its own name for a field."""
    text = f"leave out {called(Card, name)}"

    assert (f"leave out {toml}", f"leave out {xml}") == (
        in_form(text, "toml"),
        in_form(text, "xml"),
    )


def test_text_with_several_pieces() -> None:
    """Each piece is settled by itself, and what is around them stays."""
    text = f"a {either('b', '<b/>')} c {called(Graphics, 'gl')} d"

    assert in_form(text, "toml") == "a b c 'gl' d"
    assert in_form(text, "xml") == "a <b/> c enable='...' in <gl> d"


def test_text_that_nobody_settled_says_both() -> None:
    """A text that came past the place where it should be settled can be read all the same."""
    seen = "".join(letter for letter in either("b = 1", "<b/>") if letter.isprintable())

    assert seen == "b = 1 (in XML: <b/>)"
