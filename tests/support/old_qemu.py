# SPDX-License-Identifier: LGPL-2.1-or-later
"""The QEMUs that Debian 12 and 13 have, without installing them: unpacked, each with its libraries.

Debian 12's own is older than the hand-over of eBPF objects. The others span what QEMU has changed
about it since. Debian's stable updates may bring another last number; the names stay.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.debian_folder import FOLDER, find_or_build, mirror

BINARY: Final = "usr/bin/qemu-system-x86_64"

LAUNCHER: Final = """\
#!/bin/sh
# With its own libraries, modules and firmware: the machine's may be newer, or not there.
root={root}
libraries=$root/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu
export QEMU_MODULE_DIR="$root/usr/lib/x86_64-linux-gnu/qemu"
exec "$root"/{loader} --library-path "$libraries" "$root"/{binary} \\
    -L "$root"/usr/share/qemu -L "$root"/usr/share/seabios "$@"
"""

LOADERS: Final = (
    "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
)
"""Debian 13 has it below /usr alone."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a QEMU comes from: a release of Debian, and what it is taken from there."""

    release: str
    target: str
    packages: str = "qemu-system-x86,qemu-system-modules-spice"


SOURCES: Final = {
    # Here, QEMU's package for all kinds of machine has the spice modules.
    "7.2": Source("bookworm", "bookworm", "qemu-system-x86"),
    "10.0.2": Source("bookworm", "bookworm-backports"),
    "10.0.13": Source("trixie", "trixie"),
    "11.1.3": Source("trixie", "trixie-backports"),
}


def old_qemu_binary(name: str = "7.2") -> Path:
    """Return the program itself, to be looked into."""
    return _root(name) / BINARY


def old_qemu(folder: Path, name: str = "7.2") -> Path:
    """Write a script into *folder* that starts it, on any machine of its kind; return its path."""
    root = _root(name)
    loader = next(path for path in LOADERS if (root / path).exists())
    launcher = folder / f"qemu-{name}"
    launcher.write_text(LAUNCHER.format(root=root, binary=BINARY, loader=loader))
    launcher.chmod(0o755)
    return launcher


def _root(name: str) -> Path:
    source = SOURCES[name]
    lists = [f"deb {mirror()} {source.release} main"]
    options = []
    if source.target != source.release:
        lists.append(f"deb {mirror()} {source.target} main")
        options.append(f'--aptopt=APT::Default-Release "{source.target}"')
    command = [
        "mmdebstrap", "--variant=extract", f"--include={source.packages}",
        "--aptopt=APT::Install-Recommends false", *options,
        source.release, FOLDER, *lists,
    ]  # fmt: skip
    return find_or_build(f"qemu-{name}", command)
