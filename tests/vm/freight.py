# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a run brings into the host: a tar file, which is its second disk and is unpacked in /srv."""

import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from guest.build import Guest
from tests.support.client_environment import REPOSITORY

TREES: Final = (
    "shared",
    "helper",
    "client",
    "systemd",
    "tools",
    "docs",
    "tests/__init__.py",
    "tests/client/__init__.py",
    "tests/client/guest.py",
    "tests/support/__init__.py",
    "tests/support/census.py",
    "tests/systemd/ask.py",
    "tests/vm",
)
"""What tools/install copies or makes man pages of, and what the tests run inside."""

CLONE: Final = "/srv/bpferry"
PACKAGES: Final = "/srv/packages"
GUEST: Final = Guest(Path("/srv/guest/kernel"), Path("/srv/guest/initrd"))
"""Where things are inside."""


def write_freight(path: Path, guest: Guest, packages: Sequence[Path] = ()) -> None:
    """Write this clone as it is now, the two files of *guest*, and *packages* into a tar file."""
    with tarfile.open(path, "w") as archive:
        for name in (*TREES, "pyproject.toml"):
            archive.add(REPOSITORY / name, f"bpferry/{name}", filter=_owned_by_root)
        archive.add(guest.kernel, "guest/kernel", filter=_owned_by_root)
        archive.add(guest.initrd, "guest/initrd", filter=_owned_by_root)
        for package in packages:
            archive.add(package, f"packages/{package.name}", filter=_owned_by_root)


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if "__pycache__" in member.name or member.name.endswith(".egg-info"):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member
