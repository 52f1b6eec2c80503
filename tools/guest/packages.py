# SPDX-License-Identifier: LGPL-2.1-or-later
"""Download packages of the running release with apt-get, and unpack them without installing."""

import re
from collections.abc import Sequence
from pathlib import Path

from guest.command import GuestError, run

HINT = "apt's sources must offer the main component of the release that runs"


def ask_apt(argv: Sequence[str], folder: Path | None = None) -> str:
    """Run a command that needs apt's package lists; if it fails, fetch them and run it again.

    The lists may be missing, as in minimal images, or name versions that the mirror has deleted.
    """
    try:
        return run(argv, folder=folder, hint=HINT)
    except GuestError:
        run(["apt-get", "update"], hint="is there a network, and is this root?")
        return run(argv, folder=folder, hint=HINT)


def cloud_kernel() -> str:
    """Return the current package of the release's cloud kernel."""
    architecture = run(["dpkg", "--print-architecture"]).strip()
    meta = f"linux-image-cloud-{architecture}"
    listed = ask_apt(["apt-cache", "depends", "--important", meta])
    found = re.search(r"Depends: (linux-image-\S+)", listed)
    if found is None:
        raise GuestError(f"cannot find the kernel of package '{meta}': it depends on none", HINT)
    return found[1]


def identities(names: Sequence[str]) -> list[str]:
    """Return file name, size and checksum of each package from apt, without downloading."""
    # apt-get does not list a package whose file is in the working folder.
    listed = ask_apt(["apt-get", "download", "--print-uris", *names], Path("/"))
    found = [line.split(" ", 1)[1] for line in listed.splitlines() if line.startswith("'")]
    if len(found) != len(names):
        shown = " ".join(names)
        raise GuestError(f"cannot find the packages '{shown}': apt knows {len(found)}", HINT)
    # The address comes first and is left out: the mirror does not change the package.
    return sorted(found)


def fetch(names: Sequence[str], folder: Path) -> list[Path]:
    """Download the packages that are not in *folder* yet; return all their files."""
    folder.mkdir(parents=True, exist_ok=True)
    # apt's user may not be able to write here, and apt verifies every file anyway.
    as_we_are = ["-o", "APT::Sandbox::User=root"]
    ask_apt(["apt-get", "download", "-qq", *as_we_are, *names], folder)
    return [folder / line.split()[0] for line in identities(names)]


def unpack(archives: Sequence[Path], folder: Path) -> None:
    """Unpack all *archives* into *folder*."""
    for archive in archives:
        run(["dpkg-deb", "-x", str(archive), str(folder)])
