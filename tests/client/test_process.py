# SPDX-License-Identifier: LGPL-2.1-or-later
"""A child cannot outlive us, not even if we are killed while it is being started."""

import os
import subprocess
from pathlib import Path

from bpferry.qemu.process import guarded


def test_child_of_a_living_parent_is_started(tmp_path: Path) -> None:
    """The program runs with its own arguments, whatever is in them."""
    seen = tmp_path / "seen"
    argv = ["/bin/sh", "-c", 'printf "%s|" "$@" >"$0"', str(seen), "a b", "$x", ""]

    subprocess.run(guarded(argv, os.getpid()), check=True)

    assert "a b|$x||" == seen.read_text()


def test_child_whose_parent_is_gone_is_not_started(tmp_path: Path) -> None:
    """Who was killed before the parent-death signal was asked for leaves no program behind."""
    seen = tmp_path / "seen"
    somebody_else = os.getppid()

    done = subprocess.run(guarded(["/bin/touch", str(seen)], somebody_else), check=False)

    assert done.returncode == 1
    assert not seen.exists()
