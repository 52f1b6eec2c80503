# SPDX-License-Identifier: LGPL-2.1-or-later
"""tools/prepare/client.txt: all that root installs for the client, each file with its hash."""

import importlib.metadata
import re
import tomllib
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from prepare.renew_client import EXTRAS, PINS, PROCESSORS, PYTHONS
from prepare.requirements import requirements
from tests.lint.test_linters import REPOSITORY

TEXT: Final = PINS.read_text(encoding="utf-8")

ENTRY: Final = re.compile(
    r"((?:^# .+\n)+)^([a-z-]+)==(\S+)((?: \\\n +--hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE
)
"""The names of wheels, a package, its version, and the hashes of the wheels."""

PINNED: Final = {name: version for _, name, version, _ in ENTRY.findall(TEXT)}

TARGETS: Final = [(python, processor) for python in PYTHONS for processor in PROCESSORS]


def wanted() -> dict[str, Requirement]:
    """Return what pyproject.toml requires for an installation."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    found = [Requirement(line) for line in requirements(project, EXTRAS)]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def fits(wheel: str, python: str, processor: str) -> bool:
    """Say whether *wheel* is for this Python and processor."""
    version = python.replace(".", "")
    for tag in parse_wheel_filename(wheel)[3]:
        if tag.interpreter in {"py3", f"cp{version}"} and (
            tag.platform == "any" or tag.platform.endswith(f"_{processor}")
        ):
            return True
    return False


def test_pip_takes_only_wheels_with_hashes() -> None:
    """The list itself says so, so that nobody who installs it can forget it."""
    assert {"--require-hashes", "--only-binary :all:"} <= set(TEXT.splitlines())


def test_nothing_but_pins_is_in_the_list() -> None:
    """No address of an index, and no package without a version or hash."""
    left = ENTRY.sub("", TEXT).splitlines()

    assert ["--only-binary :all:", "--require-hashes"] == sorted(
        line for line in left if line and not line.startswith("#")
    )


def test_each_dependency_is_pinned_as_pyproject_allows() -> None:
    """Renew the list when pyproject.toml changes: tools/prepare/renew_client.py."""
    missing = wanted().keys() - PINNED.keys()
    wrong = [name for name, need in wanted().items() if PINNED[name] not in need.specifier]

    assert (set(), []) == (missing, wrong)


def required_by(name: str) -> set[str]:
    """Return what the package *name* requires."""
    needs = [Requirement(line) for line in importlib.metadata.requires(name) or []]
    return {
        canonicalize_name(need.name)
        for need in needs
        if need.marker is None or need.marker.evaluate({"extra": ""})
    }


@pytest.mark.parametrize("name", PINNED)
def test_what_a_pinned_package_requires_is_pinned(name: str) -> None:
    """And nothing is pinned that nobody requires."""
    assert required_by(name) <= PINNED.keys()
    assert name in wanted().keys() | set().union(*map(required_by, PINNED))


@pytest.mark.parametrize(("python", "processor"), TARGETS)
@pytest.mark.parametrize("name", PINNED)
def test_there_is_a_wheel_for_each_release(name: str, python: str, processor: str) -> None:
    """Of this version, and as many hashes as wheels."""
    [(wheels, hashes)] = [(w, h) for w, n, _, h in ENTRY.findall(TEXT) if n == name]
    files = [line.removeprefix("# ") for line in wheels.splitlines()]

    assert {(name, PINNED[name])} == {(n, str(v)) for n, v, *_ in map(parse_wheel_filename, files)}
    assert any(fits(file, python, processor) for file in files)
    assert len(files) == hashes.count("--hash=")
