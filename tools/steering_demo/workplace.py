# SPDX-License-Identifier: LGPL-2.1-or-later
"""A temporary folder for the demonstration: code that only root can change, and all sockets.

The clone may be in a home folder that neither the user nor the helpers can read; and code that runs
with a capability should not be in a file that an ordinary user can edit. The helpers find their
policy in /etc/bpferry: their /etc is a folder in here, with nothing else in it. The user gets a
home folder in here, so that nothing is left in the real one.
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
"""The ordinary user, unless we run through sudo: a uid without a name and without rights."""

HELPER_UIDS: Final = {"bpf": 64_243, "tap": 64_244}
"""The user of each helper, by role."""

SYSTEM_PYTHON: Final = "/usr/bin/python3"
"""Debian's, whose packages the installed helpers use too."""

BRIDGE: Final = "br0"

POLICY: Final = f"""\
[load]
users = [{{uid}}]

[users.{{uid}}]
bridges = ["{BRIDGE}"]
"""
"""What the administrator of this host would write."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """The folders and files of one demonstration."""

    folder: Path
    user_uid: int

    def socket(self, role: str) -> Path:
        """Return where the helper of *role* listens."""
        return self.folder / f"{role}.sock"

    @property
    def state(self) -> Path:
        """The state folder of the helper that has one."""
        return self.folder / "state"

    @property
    def etc(self) -> Path:
        """What the helpers see as /etc."""
        return self.folder / "etc"

    @property
    def home(self) -> Path:
        """The user's home."""
        return self.folder / "home"

    def log(self, name: str) -> Path:
        """Return the log of the program called *name*."""
        return self.folder / f"{name}.log"

    def python_path(self, *trees: str) -> str:
        """Return PYTHONPATH for the project's top-level folders *trees*."""
        return ":".join(str(self.folder / tree) for tree in trees)

    def helper_command(self, role: str) -> list[str]:
        """Return the program of the helper of *role*."""
        return [SYSTEM_PYTHON, "-B", "-m", "bpferry_helper", role]

    def helper_environment(self, role: str) -> dict[str, str]:
        """Return the variables that it needs."""
        variables = {"PYTHONPATH": self.python_path("helper", "shared"), "MSGPACK_PUREPYTHON": "1"}
        return variables | ({"STATE_DIRECTORY": str(self.state)} if role == "bpf" else {})


@contextmanager
def workplace() -> Iterator[Workplace]:
    """Make the folder, and remove it afterwards with everything in it."""
    folder = Path(tempfile.mkdtemp(prefix="bpferry-demo-", dir="/run"))
    try:
        folder.chmod(0o755)
        for tree in ("shared", "helper", "client"):
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(REPOSITORY / tree, folder / tree, ignore=ignored)
            _close_to_others(folder / tree)
        place = Workplace(folder, int(os.environ.get("SUDO_UID", "0")) or USER_UID)
        _make_own(place.state, HELPER_UIDS["bpf"])
        _make_own(place.home, place.user_uid)
        policy = place.etc / "bpferry/policy.toml"
        policy.parent.mkdir(parents=True)
        policy.write_text(POLICY.format(uid=place.user_uid), encoding="ascii")
        _close_to_others(place.etc)
        yield place
    finally:
        shutil.rmtree(folder)


def _make_own(folder: Path, uid: int) -> None:
    """Make *folder*, for *uid* only."""
    folder.mkdir(mode=0o700)
    os.chown(folder, uid, uid)


def _close_to_others(tree: Path) -> None:
    """Make root the owner of all of *tree*, readable by everybody and writable by nobody else."""
    for path in [tree, *tree.rglob("*")]:
        os.chown(path, 0, 0)
        path.chmod(0o755 if path.is_dir() else 0o644)
