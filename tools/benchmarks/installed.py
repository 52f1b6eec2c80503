# SPDX-License-Identifier: LGPL-2.1-or-later
"""A copy of the helper as tools/install would install it: compiled, with its own launcher.

The clone itself will not do: the helper runs as another user, who may not be able to read the
clone, and writes no byte code, so it would compile every module at each start.
"""

import shutil
from pathlib import Path

from benchmarks.command import BenchError, run

PYTHON = "/usr/bin/python3"
REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("shared/bpferry_wire", "helper/bpferry_helper")
LAUNCHER = REPOSITORY / "tools/prepare/launch_helper.py"
INSTALLED_IN = "/usr/local/lib/bpferry/helper"
"""Where the launcher looks for the helper; the copy's launcher looks into the copy instead."""


def install_copy(folder: Path) -> Path:
    """Install a copy of the clone's helper in *folder*; return its launcher."""
    tree = folder / "helper"
    for package in PACKAGES:
        source = REPOSITORY / package
        shutil.copytree(source, tree / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    run([PYTHON, "-I", "-m", "compileall", "-q", str(tree)])
    launcher = folder / "bpferry-helper"
    launcher.write_text(_pointed_at(tree, LAUNCHER.read_text()))
    # The helper's user has to read all of this; only root may write it.
    run(["chmod", "-R", "u=rwX,go=rX", str(tree), str(launcher)])
    return launcher


def _pointed_at(tree: Path, launcher: str) -> str:
    if launcher.count(f'"{INSTALLED_IN}"') != 1:
        raise BenchError(f"'{LAUNCHER}' does not name '{INSTALLED_IN}' exactly once")
    return launcher.replace(f'"{INSTALLED_IN}"', repr(str(tree)))
