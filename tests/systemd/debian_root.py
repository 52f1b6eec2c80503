# SPDX-License-Identifier: LGPL-2.1-or-later
"""A Debian with systemd and QEMU in a folder, made once by mmdebstrap and kept in the cache."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

CACHE: Final = Path("/var/cache/bpferry/roots")

PACKAGES: Final = (
    "systemd",
    "systemd-sysv",  # /sbin/init
    "dbus",  # systemctl --wait
    "libnss-systemd",  # names of dynamic users
    "python3",
    "python3-venv",
    "python3-msgpack",
    "libbpf1",
)
"""What tools/install would install, so that no test waits for it, and what it does not."""

BUILD_SECONDS: Final = 600
"""It takes 40; a slow mirror takes longer."""


def find_or_build(release: str) -> Path:
    """Return the root of *release*, "bookworm" or "trixie", made now if it is not there.

    It is never changed afterwards: whoever boots it lays an overlay above.
    """
    command = _command(release, _mirror())
    key = hashlib.sha256("\0".join(command).encode()).hexdigest()[:12]
    root = CACHE / f"systemd-{release}-{key}"
    if root.exists():
        return root
    CACHE.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f"building-{release}-", dir=CACHE))
    try:
        _build(command, building)
        building.chmod(0o755)
        # Two who build at the same time both have a whole one; the first is kept.
        if not root.exists():
            building.rename(root)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return root


def _mirror() -> str:
    """Return where this machine's apt has Debian itself from."""
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


def _command(release: str, mirror: str) -> list[str]:
    sources = [f"deb {mirror} {release} main"]
    target = release
    if release == "bookworm":
        # QEMU takes eBPF fds since 9.0, and Debian 12 itself has 7.2.
        target = "bookworm-backports"
        sources.append(f"deb {mirror} {target} main")
    return [
        "mmdebstrap",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        "--aptopt=APT::Install-Recommends false",
        f'--customize-hook=chroot "$1" apt-get --yes -t {target} install qemu-system-x86',
        # The booted system must not think that it is booted for the first time, and ask.
        '--customize-hook=chroot "$1" systemd-firstboot --root=/ --locale=C.UTF-8 --timezone=UTC',
        release,
        "FOLDER",
        *sources,
    ]


def _build(command: list[str], folder: Path) -> None:
    argv = [str(folder) if word == "FOLDER" else word for word in command]
    done = subprocess.run(
        argv,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_SECONDS,
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
    )
    if done.returncode != 0:
        raise RuntimeError(f"cannot make '{folder}':\n{done.stdout[-3000:]}")
