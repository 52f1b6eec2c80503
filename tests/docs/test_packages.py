# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a package says about itself, compared with what is in its folder."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
ROOTS = ("shared/bpferry_wire", "helper/bpferry_helper", "client/bpferry")

PACKAGES = [
    folder.parent.relative_to(REPOSITORY)
    for root in ROOTS
    for folder in sorted((REPOSITORY / root).rglob("__init__.py"))
]

ENTRY = re.compile(r"^    (\w+) +\S", re.MULTILINE)
"""One line of the list of modules: a name, and what it is for."""


def _docstring(package: Path) -> str:
    return ast.get_docstring(ast.parse((REPOSITORY / package / "__init__.py").read_text())) or ""


def _modules(package: Path) -> list[str]:
    """Return the modules and packages in the folder of *package* that one can import."""
    folder = REPOSITORY / package
    modules = [path.stem for path in folder.glob("*.py") if not path.stem.startswith("__")]
    return sorted(modules + [path.parent.name for path in folder.glob("*/__init__.py")])


@pytest.mark.parametrize("package", PACKAGES, ids=str)
def test_a_package_lists_its_modules(package: Path) -> None:
    """Its docstring has one line for each of them, and none for what is not there."""
    assert sorted(ENTRY.findall(_docstring(package))) == _modules(package)


@pytest.mark.parametrize("package", PACKAGES, ids=str)
def test_a_package_says_what_it_depends_on(package: Path) -> None:
    """Its docstring ends with what it depends on and with what it never does."""
    last = _docstring(package).split("\n\n")[-1]

    assert re.match(r"Depends on: .*\nNever does: ", last, re.DOTALL), last
