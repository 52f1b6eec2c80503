# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Debian packages of this clone, built by tools/package once for the same sources."""

import hashlib
import re
import shutil
import time
from pathlib import Path
from typing import Final

from tests.support.debian_folder import BUILD_SECONDS, CACHE, FOLDER, find_or_build

REPOSITORY: Final = Path(__file__).parents[2]
TOOL: Final = REPOSITORY / "tools/package"

DAY_S: Final = 86_400


def build(release: str) -> Path:
    """Return the folder with the packages for *release*, built once for the same sources."""
    # Half of the time goes to lintian, which finds the same for both.
    options = ["--lintian"] if release == "trixie" else []
    command = [str(TOOL), "--release", release, *options, FOLDER]
    # Its first step may be to make a root.
    return find_or_build(f"packages-{release}-{sources()}", command, seconds=2 * BUILD_SECONDS)


def sources() -> str:
    """Return a hash of all that tools/package takes from this clone."""
    (parts,) = re.findall(r"^parts='(.*)'$", TOOL.read_text(), re.MULTILINE)
    digest = hashlib.sha256()
    for part in parts.split():
        for path in sorted([REPOSITORY / part, *(REPOSITORY / part).rglob("*")]):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(
                    f"{path.relative_to(REPOSITORY)} {path.stat().st_mode}\0".encode()
                    + path.read_bytes()
                )
    return digest.hexdigest()[:12]


def sweep() -> None:
    """Remove packages of earlier sources, unless another test may be reading them."""
    for folder in CACHE.glob("packages-*"):
        if folder.stat().st_mtime < time.time() - DAY_S:
            shutil.rmtree(folder)
