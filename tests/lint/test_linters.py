# SPDX-License-Identifier: LGPL-2.1-or-later
"""The linters are tests: what they complain about fails the same run as a fault."""

import ast
import itertools
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
BINARIES = Path(sys.executable).parent

PACKAGES = ("shared/bpferry_wire", "helper/bpferry_helper", "client/bpferry")
SOURCES = ":".join(str((REPOSITORY / package).parent) for package in PACKAGES)
"""Where lint-imports finds what it looks at, installed or not."""

MEDIAN_LINES = 12
MOST_LINES = 60

HELPER_LINES = 10050
"""Of both roles, everything counted (docs/decisions/0005-python-with-a-capability.md)."""

IN_NO_SERVICE = {"slurm.py"}
"""Which tests/helper/test_imports.py makes sure of."""

COMMANDS = {
    "ruff check": ("ruff", "check", "."),
    "ruff format": ("ruff", "format", "--check", "."),
    "mypy": ("mypy",),
    "lint-imports": ("lint-imports",),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_linter_is_content(command: tuple[str, ...]) -> None:
    """With the settings of pyproject.toml, on all that is in the tree."""
    done = subprocess.run(
        [BINARIES / command[0], *command[1:]],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": SOURCES},
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr


def functions(package: str) -> Iterator[tuple[str, int]]:
    """Yield each function of *package* with its number of lines, signature and docstring too."""
    for path in sorted((REPOSITORY / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                name = f"{path.relative_to(REPOSITORY)}:{node.lineno} {node.name}"
                yield name, node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("package", PACKAGES)
def test_functions_are_short(package: str) -> None:
    """Half of them have less than twelve lines."""
    lengths = [length for _, length in functions(package)]

    assert statistics.median(lengths) < MEDIAN_LINES


@pytest.mark.parametrize("package", PACKAGES)
def test_no_function_is_long(package: str) -> None:
    """Sixty lines are the most."""
    assert [] == [name for name, length in functions(package) if length > MOST_LINES]


TOP = ("shared", "helper", "client", "systemd", "tests", "tools", "docs", r"\.ci")
NAMED = re.compile(rf"(?<![\w./-])((?:{'|'.join(TOP)})/[\w./@-]*[\w-]|README\.md|CHANGELOG\.md)")
"""A path from the top of the repository, as text and comments write it."""


# Files of QEMU, libvirt and SeaBIOS that texts refer to, and a socket of systemd's.
FOREIGN = {
    "systemd/machine/io.systemd.Machine",
    "tools/ebpf/rss.bpf.c",
    "docs/debugging",
    "docs/formatdomain",
    "docs/devel/qapi-code-gen.rst",
    "docs/interop",
    "docs/interop/firmware.json",
    "docs/interop/vhost-user.json",
    "docs/interop/qcow2.rst",
    "docs/interop/vhost-user.rst",
    "docs/about/deprecated.rst",
    "docs/pci-hotplug",
    "docs/pcie",
    "docs/specs/fw_cfg.rst",
    "docs/system/i386/hyperv.rst",
    "tests/qtest/device-introspect-test.c",
    # A socket of systemd's.
    "systemd/private",
    # What is beside the checkout, and patterns.
    "shared/conformance",
    "tests/golden/capabilities/NAME.json",
    "tests/golden/capabilities/NAME.json.xz",
}
"""Paths in QEMU's and SeaBIOS's repositories, which our comments name as sources."""


def texts() -> Iterator[Path]:
    """Yield every file in which a path may be named."""
    patterns = ("*.md", "docs/**/*.md", "systemd/*", "tools/**/*", ".ci/*", "tests/**/*.py")
    in_packages = (f"{package}/**/*.{kind}" for package in PACKAGES for kind in ("py", "c"))
    for pattern in itertools.chain(patterns, in_packages):
        for path in sorted(REPOSITORY.glob(pattern)):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def named_paths(path: Path) -> set[str]:
    """Return the paths of this repository that *path* names."""
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        return set()
    return set(NAMED.findall(text))


def test_every_named_path_exists() -> None:
    """What a text points to is there; a renamed file takes its mentions along."""
    missing = {
        f"{path.relative_to(REPOSITORY)}: {name}"
        for path in texts()
        for name in named_paths(path)
        if not exists(name)
    }

    assert set() == missing


def exists(name: str) -> bool:
    """Say whether *name* is a file, a folder, or a module without its ending."""
    path = REPOSITORY / name
    return name in FOREIGN or path.exists() or path.with_name(f"{path.name}.py").exists()


def test_a_missing_path_would_be_found(tmp_path: Path) -> None:
    """The check above can fail."""
    page = tmp_path / "page.md"
    page.write_text("See helper/" + "bpferry_helper/nothing.py, not a/helper/x.py.")

    assert [False] == [exists(name) for name in named_paths(page)]


def test_the_helper_can_be_read() -> None:
    """All that runs with a capability is as short as decision 5 says."""
    modules = (REPOSITORY / "helper/bpferry_helper").rglob("*.py")
    counted = [module for module in modules if module.name not in IN_NO_SERVICE]

    assert sum(len(module.read_text().splitlines()) for module in counted) < HELPER_LINES
