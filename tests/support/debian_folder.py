# SPDX-License-Identifier: LGPL-2.1-or-later
"""Folders that mmdebstrap fills with parts of a Debian, made once and kept in the cache."""

import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from guest.build import locked

CACHE: Final = Path("/var/cache/bpferry/roots")

FOLDER: Final = "FOLDER"
"""What a command has in place of the folder that it fills."""

BUILD_SECONDS: Final = 600
"""It takes 40; a slow mirror takes longer."""


def find_or_build(
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    seconds: float = BUILD_SECONDS,
) -> Path:
    """Return the folder that *command* has filled, or fills now; the same command, the same folder.

    It must not be changed afterwards: other tests and later runs use it too. The command may look
    at variables of *environment*, which do not make another folder. It may take *seconds*.
    """
    key = hashlib.sha256("\0".join(command).encode()).hexdigest()[:12]
    root = CACHE / f"{name}-{key}"
    if root.exists():
        return root
    CACHE.mkdir(parents=True, exist_ok=True)
    with locked(CACHE / f"{root.name}.lock"):
        # Another pytest was at it, if it is there now; to make it twice costs a minute.
        if not root.exists():
            _build_at(root, name, command, environment or {}, seconds)
    return root


def _build_at(
    root: Path, name: str, command: Sequence[str], environment: Mapping[str, str], seconds: float
) -> None:
    """Let *command* fill a folder that is called *root* when it is whole."""
    building = Path(tempfile.mkdtemp(prefix=f"building-{name}-", dir=CACHE))
    try:
        _build(command, building, environment, seconds)
        building.chmod(0o755)
        building.rename(root)
    finally:
        shutil.rmtree(building, ignore_errors=True)


@functools.cache
def mirror() -> str:
    """Return where this machine's apt has Debian itself from: to ask it takes a second."""
    asked = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages"],
        check=True,
        capture_output=True,
        text=True,
    )
    for line in asked.stdout.splitlines():
        codename, _, uri = line.partition(" ")
        if codename in {"bookworm", "trixie"}:
            return uri
    raise RuntimeError("apt has no lists of Debian 12 or 13: run apt-get update")


def _build(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], seconds: float
) -> None:
    done = subprocess.run(
        [str(folder) if word == FOLDER else word for word in command],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        env=_ours() | {"DEBIAN_FRONTEND": "noninteractive", **environment},
    )
    if done.returncode != 0:
        raise RuntimeError(f"cannot make '{folder}':\n{done.stdout[-3000:]}")


def _ours() -> dict[str, str]:
    """Return our environment without what it says to Python: byte code must lie in the folder."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
