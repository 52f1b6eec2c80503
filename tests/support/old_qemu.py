# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian 12's own QEMU 7.2, which is older than the hand-over: unpacked, not installed."""

from pathlib import Path
from typing import Final

from tests.support.debian_folder import FOLDER, find_or_build, mirror

BINARY: Final = "usr/bin/qemu-system-x86_64"

LAUNCHER: Final = """\
#!/bin/sh
# With its own libraries and modules: the machine's may be newer, or not there.
root={root}
libraries=$root/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu
export QEMU_MODULE_DIR="$root/usr/lib/x86_64-linux-gnu/qemu"
exec "$root"/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 \\
    --library-path "$libraries" "$root"/{binary} "$@"
"""


def old_qemu_binary() -> Path:
    """Return the program itself, to be looked into."""
    return _root() / BINARY


def old_qemu(folder: Path) -> Path:
    """Write a script into *folder* that starts it, on any machine of its kind; return its path."""
    launcher = folder / "qemu-7.2"
    launcher.write_text(LAUNCHER.format(root=_root(), binary=BINARY))
    launcher.chmod(0o755)
    return launcher


def _root() -> Path:
    command = [
        "mmdebstrap", "--variant=extract", "--include=qemu-system-x86",
        "--aptopt=APT::Install-Recommends false",
        "bookworm", FOLDER, f"deb {mirror()} bookworm main",
    ]  # fmt: skip
    return find_or_build("qemu-7.2", command)
