# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian's sshd, unpacked and not installed.

An installed one would be started at once, and listen on the network of whoever runs the tests.
"""

import re
import subprocess
from pathlib import Path
from typing import Final

from guest.packages import ask_apt, fetch, unpack
from tests import requires

CACHE: Final = Path("/var/cache/bpferry/openssh")

PACKAGE: Final = "openssh-server"


def unpack_sshd(folder: Path) -> Path:
    """Unpack sshd into *folder*, with the libraries that are not installed; return *folder*.

    What it needs of /usr/lib/openssh since its version 9.8 is in there too.
    """
    requires.root()
    requires.program("ssh")
    unpack(fetch([PACKAGE, *_missing_libraries()], CACHE), folder)
    return folder


def library_path(folder: Path) -> str:
    """Return LD_LIBRARY_PATH for the sshd that was unpacked into *folder*."""
    return ":".join(sorted({str(path.parent) for path in folder.rglob("lib*.so.*")}))


def _missing_libraries() -> list[str]:
    listed = ask_apt(["apt-cache", "depends", "--important", PACKAGE])
    return [name for name in re.findall(r" Depends: (lib\S+)", listed) if not _is_installed(name)]


def _is_installed(package: str) -> bool:
    asked = ["dpkg-query", "-W", "-f", "${db:Status-Status}", package]
    shown = subprocess.run(asked, check=False, capture_output=True, text=True)
    return shown.stdout == "installed"
