# SPDX-License-Identifier: LGPL-2.1-or-later
"""What pip makes of the tree: one distribution with three packages and two commands."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
INPUTS = ("pyproject.toml", "README.md", "LICENSE", "shared", "helper", "client")


@pytest.fixture(name="site", scope="module")
def _site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the installed distribution, away from its sources."""
    source = tmp_path_factory.mktemp("source")
    # A copy: setuptools writes beside what it builds.
    subprocess.run(["cp", "-r", *(REPOSITORY / name for name in INPUTS), source], check=True)
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*command, f"--target={site}", source], check=True)
    return site


@pytest.mark.parametrize("command", ["bpferry", "bpferry-helper"])
def test_both_commands_run(site: Path, command: str) -> None:
    """Each finds its package where pip has put it, and says the version of the distribution."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    done = subprocess.run(
        [sys.executable, site / "bin" / command, "--version"],
        env={"PYTHONPATH": str(site)}, cwd="/", capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout == f"{command} {project['version']}\n"


@pytest.mark.parametrize(
    "file",
    [
        "bpferry_helper/bpf/map_ids.bpf.o",
        "bpferry_wire/py.typed",
        "bpferry_helper/py.typed",
        "bpferry/py.typed",
    ],
)
def test_files_beside_the_code_are_there(site: Path, file: str) -> None:
    """The compiled iterator and the markers of typed packages are part of it."""
    assert (site / file).is_file()


def test_nothing_else_is_installed(site: Path) -> None:
    """No tests, no tools: three packages, their commands, and pip's own record."""
    found = {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")}

    assert {"bin", "bpferry", "bpferry_helper", "bpferry_wire"} == found
