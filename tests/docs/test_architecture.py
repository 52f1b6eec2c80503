# SPDX-License-Identifier: LGPL-2.1-or-later
"""The page about the structure, compared with the tree and with the contracts of the linter."""

import re
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs/architecture.md").read_text(encoding="utf-8")

PACKAGES = {
    "helper": REPOSITORY / "helper/bpferry_helper",
    "client": REPOSITORY / "client/bpferry",
}

MODULE = re.compile(r"`([a-z_]+(?:/[a-z_]+)?)/?`")
"""A module or a folder as the page writes it, such as `server` or `domain/document`."""

WORDS = ("rss", "client", "helper")
"""What is in backquotes there and is not a module."""

DIAGRAM = re.compile(r"^    ([a-z]+(?: \| [a-z]+)*)  +\S", re.MULTILINE)
"""One layer of the client with what it is."""


def _section(package: Path) -> str:
    """Return what the page says about *package*, up to the next heading."""
    heading = f"\n## {package.relative_to(REPOSITORY)}\n"
    return PAGE.split(heading)[1].split("\n## ")[0]


def _is_there(name: str, package: Path) -> bool:
    """Say whether *name* is a module or a folder of *package*, or anywhere in it by its end."""
    found = [*package.rglob(f"{name}.py"), *(path for path in package.rglob(name) if path.is_dir())]
    return bool(found)


def test_every_module_that_the_page_names_is_there() -> None:
    """Where the page describes a package, what it names is in that package."""
    missing = [
        name
        for package in PACKAGES.values()
        for name in MODULE.findall(_section(package))
        if name not in WORDS and not _is_there(name, package)
    ]

    assert [] == missing


def test_the_layers_are_those_of_the_contract() -> None:
    """The client's layers stand in the order in which the linter holds them."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    [layers] = [c["layers"] for c in contracts if "bpferry.cli" in c.get("layers", ())]

    shown = [
        layer.replace(" | ", " | bpferry.")
        for layer in DIAGRAM.findall(_section(PACKAGES["client"]))
    ]
    assert layers == [f"bpferry.{layer}" for layer in shown]
