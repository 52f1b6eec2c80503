# SPDX-License-Identifier: LGPL-2.1-or-later
"""A copy of the helper as tools/install would lay it down: compiled, with its own launcher.

Not the clone itself: the helper runs as a user of its own that may not be able to read the clone,
and it writes no byte code, so that it would compile every module at each start.
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
    """Lay a copy of the clone's helper down in *folder*; return what starts it."""
    tree = folder / "helper"
    for package in PACKAGES:
        source = REPOSITORY / package
        shutil.copytree(source, tree / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    run([PYTHON, "-I", "-m", "compileall", "-q", str(tree)])
    launcher = folder / "bpferry-helper"
    launcher.write_text(_pointed_at(tree, LAUNCHER.read_text()))
    # The helper's own user has to read all of this; nobody but root may write it.
    run(["chmod", "-R", "u=rwX,go=rX", str(tree), str(launcher)])
    return launcher


def _pointed_at(tree: Path, launcher: str) -> str:
    if launcher.count(f'"{INSTALLED_IN}"') != 1:
        raise BenchError(f"'{LAUNCHER}' does not name '{INSTALLED_IN}' exactly once")
    return launcher.replace(f'"{INSTALLED_IN}"', repr(str(tree)))
