# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/security.md: each claim names tests that exist."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).resolve().parents[2]
HERE: Final = Path(__file__).resolve().relative_to(REPOSITORY)
PAGE: Final = (REPOSITORY / "docs/security.md").read_text(encoding="utf-8")

HEAD: Final = ["claim", "shown by", "rests on", "does not cover"]

NAME: Final = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@cache
def names_in(file: str) -> frozenset[str]:
    """Return the names of the test functions of a file; none if it is not there."""
    path = REPOSITORY / file
    if not path.is_file():
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


def rows(page: str) -> list[list[str]]:
    """Return the cells of all tables, with their heads and without the lines below those."""
    lines = [line for line in page.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if not row[0].startswith("---")]


def missing_tests(page: str) -> list[str]:
    """Return the tests that the page names and that do not exist."""
    return [f"{file}::{name}" for file, name in NAME.findall(page) if name not in names_in(file)]


CLAIMS: Final = [row for row in rows(PAGE) if row != HEAD]


def test_every_test_that_is_named_exists() -> None:
    """File and function."""
    assert [] == missing_tests(PAGE)


@pytest.mark.parametrize("file", [HERE, HERE.with_name("none.py")])
def test_a_test_that_does_not_exist_is_noticed(file: Path) -> None:
    """The check above can fail, for a function and for a file."""
    exists = f"{HERE}::{test_every_test_that_is_named_exists.__name__}"

    assert [f"{file}::test_none"] == missing_tests(
        f"| a | `{exists}`, `{file}::test_none` | b | c |"
    )


@pytest.mark.parametrize("claim", CLAIMS, ids=[row[0][:60] for row in CLAIMS])
def test_a_claim_has_its_four_columns(claim: list[str]) -> None:
    """What holds, at least one test and nothing else beside it, what it rests on, what is left."""
    assert 4 == len(claim)
    assert all(claim)
    assert "" == NAME.sub("", claim[1]).strip(", ")
    assert NAME.search(claim[1])


def test_every_table_has_the_same_head() -> None:
    """And below it are claims."""
    heads = rows(PAGE).count(HEAD)

    assert PAGE.count("\n|---|") == heads
    assert len(CLAIMS) > heads > 0
