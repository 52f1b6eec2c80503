# SPDX-License-Identifier: LGPL-2.1-or-later
"""The image of docs/kubernetes/Containerfile, made by its own steps above a Debian that we have.

No image can be fetched here. So what FROM names is a folder that mmdebstrap made, COPY is a copy of
the packages that tools/package has built, and RUN is run there, with this machine's network.
"""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.kubernetes.manifests import FOLDER
from tests.support.podman import Podman
from tests.systemd.container import CERTIFICATES, PASSED_ON

CONTAINERFILE: Final = FOLDER / "Containerfile"

STEP: Final = re.compile(r"^([A-Z]+) (.*)$", re.MULTILINE)

RUN: Final = """
set -e
cd "$1"
mount -t proc proc proc
mount --rbind /dev dev
mount --bind "$2" "${1}$2"
cp --remove-destination /etc/resolv.conf etc/resolv.conf
chroot . sh -e -c "$3"
umount --recursive --lazy proc dev "${1}$2"
"""

RUN_S: Final = 300.0
"""It fetches a dozen packages."""


def steps() -> list[tuple[str, str]]:
    """Return each instruction and its words."""
    return STEP.findall(CONTAINERFILE.read_text())


def make_image(podman: Podman, packages: Path) -> None:
    """Carry out the steps in the root of *podman*, with the *packages* as dist/.

    Raises:
        ValueError: there is a step that is not known here.
    """
    for instruction, words in steps():
        match instruction:
            case "FROM" | "USER":
                pass
            case "COPY":
                _copy(podman, packages, *shlex.split(words))
            case "RUN":
                _run(podman, words)
            case _:
                raise ValueError(f"{CONTAINERFILE}: {instruction} is not known here")


def _copy(podman: Podman, packages: Path, *words: str) -> None:
    *patterns, target = words
    folder = Path(f"/proc/{podman.holder}/root{podman.root}{target}")
    folder.mkdir(parents=True)
    for pattern in patterns:
        (found,) = packages.glob(pattern.removeprefix("dist/"))
        shutil.copy(found, folder)


def _run(podman: Podman, words: str) -> None:
    passed = {name: text for name, text in os.environ.items() if name.startswith(PASSED_ON)}
    done = subprocess.run(
        podman.inside("sh", "-c", RUN, "sh", str(podman.root), CERTIFICATES, words),
        check=False,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        env=passed | {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"},
    )
    assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
