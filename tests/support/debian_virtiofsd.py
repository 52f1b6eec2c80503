# SPDX-License-Identifier: LGPL-2.1-or-later
"""The virtiofsd of Debian 13, unpacked with its libraries: Debian 12 has none in Rust."""

from pathlib import Path

from tests import requires
from tests.support.debian_folder import FOLDER, find_or_build, mirror

LAUNCHER = """\
#!/bin/sh
exec "{root}"/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 \\
    --library-path "{root}"/usr/lib/x86_64-linux-gnu "{root}"/usr/libexec/virtiofsd "$@"
"""


def debian_virtiofsd(folder: Path) -> Path:
    """Write a script into *folder* that starts it; return its path."""
    requires.mmdebstrap()
    command = [
        "mmdebstrap", "--variant=extract", "--include=virtiofsd",
        "--aptopt=APT::Install-Recommends false",
        "trixie", FOLDER, f"deb {mirror()} trixie main",
    ]  # fmt: skip
    launcher = folder / "virtiofsd"
    launcher.write_text(LAUNCHER.format(root=find_or_build("virtiofsd", command)))
    launcher.chmod(0o755)
    return launcher
