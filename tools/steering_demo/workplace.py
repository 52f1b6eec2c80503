# SPDX-License-Identifier: LGPL-2.1-or-later
"""A folder for the time of the demonstration: the code as only root can change it, and all sockets.

The clone may lie in a home that neither the user nor the helper can read; and what runs with a
capability should not be a file that an ordinary user may edit.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]

USER_UID: Final = 64_242
"""The ordinary user, where nobody ran us through sudo: a uid without a name and without rights."""

HELPER_UID: Final = 64_243
"""The helper's own user."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where everything of one demonstration is."""

    folder: Path
    user_uid: int

    @property
    def socket(self) -> Path:
        """The helper's socket."""
        return self.folder / "bpf.sock"

    @property
    def state(self) -> Path:
        """The helper's state folder."""
        return self.folder / "state"

    def log(self, name: str) -> Path:
        """Return where the program called *name* writes what it has to say."""
        return self.folder / f"{name}.log"

    def python_path(self, *trees: str) -> str:
        """Return PYTHONPATH for the project's top-level folders called *trees*."""
        return ":".join(str(self.folder / tree) for tree in trees)


@contextmanager
def workplace() -> Iterator[Workplace]:
    """Make the folder, and remove it with all that is in it."""
    folder = Path(tempfile.mkdtemp(prefix="bpferry-demo-", dir="/run"))
    try:
        folder.chmod(0o755)
        for tree in ("shared", "helper", "client"):
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(REPOSITORY / tree, folder / tree, ignore=ignored)
            _close_to_others(folder / tree)
        place = Workplace(folder, int(os.environ.get("SUDO_UID", "0")) or USER_UID)
        place.state.mkdir(mode=0o700)
        os.chown(place.state, HELPER_UID, HELPER_UID)
        yield place
    finally:
        shutil.rmtree(folder)


def _close_to_others(tree: Path) -> None:
    """Make all of *tree* root's, readable by everybody and writable by nobody else."""
    for path in [tree, *tree.rglob("*")]:
        os.chown(path, 0, 0)
        path.chmod(0o755 if path.is_dir() else 0o644)
