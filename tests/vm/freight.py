# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a run brings into the host: a tar file, which is its second disk and is unpacked in /srv.

The byte code of all Python in it comes along, made by the Python of the host's release. To compile
takes two seconds here and half a minute on an emulated processor, and programs that are started
from the clone in there would compile what they import each time.
"""

import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from guest.build import Guest
from tests.support.client_environment import REPOSITORY
from tests.systemd.debian_root import debian_root

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


COMPILE: Final = """
mount --bind "$1" "$2/mnt"
chroot "$2" python3 -I -m compileall -q -s /mnt -p %s /mnt
"""
"""Python looks at the seconds of the source's time, which tar keeps."""


def write_freight(
    path: Path, guest: Guest, packages: Sequence[Path] = (), release: str = "trixie"
) -> None:
    """Write this clone as it is now, the two files of *guest*, and *packages* into a tar file.

    It is for a host of *release*.
    """
    with tempfile.TemporaryDirectory() as folder, tarfile.open(path, "w") as archive:
        clone = Path(folder) / "clone"
        _copy_clone(clone)
        _compile(clone, release)
        archive.add(clone, "bpferry", filter=_owned_by_root)
        archive.add(guest.kernel, "guest/kernel", filter=_owned_by_root)
        archive.add(guest.initrd, "guest/initrd", filter=_owned_by_root)
        for package in packages:
            archive.add(package, f"packages/{package.name}", filter=_owned_by_root)


def _copy_clone(folder: Path) -> None:
    """Copy the parts of this clone that the host gets, without byte code of this machine's."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in (*TREES, "pyproject.toml"):
        source, copy = REPOSITORY / name, folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, symlinks=True, ignore=ignored)
        else:
            shutil.copy2(source, copy)


def _compile(folder: Path, release: str) -> None:
    """Compile what is in *folder* by the Python of *release*, for its place in the host."""
    root = debian_root(release)
    script = ("sh", "-ec", COMPILE % CLONE, "sh", folder, root)
    # The root stays as it is: nobody else sees the mount, which ends with the command.
    subprocess.run(["unshare", "--mount", *script], check=True)


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member
