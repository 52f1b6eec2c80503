# SPDX-License-Identifier: LGPL-2.1-or-later
"""Copies of helper and client as tools/install would install them: compiled, with their launchers.

The clone itself will not do: other users may not be able to read it, and cannot write byte code
there, so they would compile every module at each start. And "python3 -m bpferry" is not what a user
starts: Python imports more for it.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.command import BenchError, run

PYTHON: Final = "/usr/bin/python3"
REPOSITORY: Final = Path(__file__).resolve().parents[2]
LAUNCHERS: Final = REPOSITORY / "tools/prepare"

HELPER: Final = ("shared/bpferry_wire", "helper/bpferry_helper")
CLIENT: Final = ("shared/bpferry_wire", "client/bpferry")

HELPER_IN: Final = '"/usr/local/lib/bpferry/helper"'
CLIENT_IN: Final = '"/usr/local/lib/bpferry/client"'
"""Where the launchers look; those of the copies look into the copies instead."""


def install_copy(folder: Path) -> Path:
    """Install a copy of the clone's helper in *folder*; return its launcher."""
    tree = _copy(HELPER, folder / "helper", PYTHON)
    return _launcher(folder / "bpferry-helper", "launch_helper.py", HELPER_IN, tree)


def install_client(folder: Path) -> list[str]:
    """Install a copy of the clone's client in *folder*/installed; return how it is started.

    The last word is its launcher, whose first line names another Python: its options are used here.
    """
    installed = folder / "installed"
    tree = _copy(CLIENT, installed / "client", sys.executable)
    installed.chmod(0o755)
    launcher = _launcher(installed / "bpferry", "launch_client.py", CLIENT_IN, tree)
    _, *options = launcher.read_text().splitlines()[0].split()
    return [sys.executable, *options, str(launcher)]


def _copy(packages: Sequence[str], tree: Path, python: str) -> Path:
    """Copy *packages* of the clone into the new folder *tree*, compiled for *python*."""
    for package in packages:
        source = REPOSITORY / package
        shutil.copytree(source, tree / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    run([python, "-I", "-m", "compileall", "-q", str(tree)])
    # Other users have to read all of this; only root may write it.
    run(["chmod", "-R", "u=rwX,go=rX", str(tree)])
    return tree


def _launcher(path: Path, name: str, installed: str, tree: Path) -> Path:
    """Write the launcher *name* to *path*, with *tree* in place of *installed*."""
    text = (LAUNCHERS / name).read_text()
    if text.count(installed) != 1:
        raise BenchError(f"'{LAUNCHERS / name}' does not name {installed} exactly once")
    path.write_text(text.replace(installed, repr(str(tree))))
    path.chmod(0o644)
    return path
