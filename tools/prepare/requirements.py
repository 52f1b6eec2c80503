# SPDX-License-Identifier: LGPL-2.1-or-later
"""Print what an extra of a pyproject.toml requires, with the base dependencies, one per line.

    requirements.py PYPROJECT [EXTRA...]

An extra that refers to another one of the same project ("bpferry[client]") is resolved, so that the
project itself is never printed: its code is imported from the clone.
"""

import sys
import tomllib
from pathlib import Path


def requirements(project: dict[str, object], extras: list[str]) -> list[str]:
    """Return the sorted requirements of *project* with *extras*."""
    dependencies, optional = project["dependencies"], project["optional-dependencies"]
    assert isinstance(dependencies, list)  # noqa: S101 - the project's own file
    assert isinstance(optional, dict)  # noqa: S101 - the project's own file
    found = set(dependencies)
    for extra in extras:
        for requirement in optional[extra]:
            own = f"{project['name']}["
            if requirement.startswith(own):
                inner = requirement.removeprefix(own).removesuffix("]").split(",")
                found.update(requirements(project, inner))
            else:
                found.add(requirement)
    return sorted(found)


def main() -> None:
    """Print the requirements."""
    pyproject, *extras = sys.argv[1:]
    project = tomllib.loads(Path(pyproject).read_text())["project"]
    print("\n".join(requirements(project, extras)))


if __name__ == "__main__":
    main()
