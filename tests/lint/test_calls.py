# SPDX-License-Identifier: LGPL-2.1-or-later
"""A call says what its values are, unless they are few."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.lint.test_linters import REPOSITORY

MOST_BY_PLACE: Final = 5
"""More than these nobody can tell apart by their places alone."""

FOLDERS: Final = ("shared", "helper", "client", "tools", "tests", "docs", ".ci")

OF_C: Final = ("syscall", "bpf_map_create", "bpf_prog_load")
"""Functions of C have no keywords."""

OF_TABLES: Final = ("Vector",)
"""Rows of a published table, in its columns."""

OF_ANY_NUMBER: Final = ("pack", "one_of")
"""Functions of libraries that take a list of values of one kind."""


def trees() -> Iterator[tuple[Path, ast.Module]]:
    """Yield each Python file with what is in it."""
    for folder in FOLDERS:
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            yield path, ast.parse(path.read_text())


def lists(tree: ast.Module) -> Iterator[str]:
    """Yield the name of each function in *tree* that takes any number of values."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.args.vararg:
            yield node.name


def long_calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the function's name of each call in *tree* with too many values."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            if sum(not isinstance(value, ast.Starred) for value in node.args) > MOST_BY_PLACE:
                yield node.lineno, name


def test_more_than_five_values_have_names() -> None:
    """What a seventh value means is read at the call, and not looked up."""
    of_any_number = {name for _, tree in trees() for name in lists(tree)}
    free = {*OF_C, *OF_TABLES, *OF_ANY_NUMBER, *of_any_number}

    assert [] == [
        f"{path.relative_to(REPOSITORY)}:{line} {name}"
        for path, tree in trees()
        for line, name in long_calls(tree)
        if name not in free
    ]
