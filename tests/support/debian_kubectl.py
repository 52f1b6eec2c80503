# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kubectl of Debian 13, which has Kustomize in it: that of Debian 12 is too old for patches."""

from pathlib import Path

from tests import requires
from tests.support.debian_folder import FOLDER, find_or_build, mirror


def debian_kubectl() -> Path:
    """Return its path. It needs no library."""
    requires.mmdebstrap()
    command = [
        "mmdebstrap", "--variant=extract", "--include=kubernetes-client",
        "--aptopt=APT::Install-Recommends false",
        "trixie", FOLDER, f"deb {mirror()} trixie main",
    ]  # fmt: skip
    return find_or_build("kubectl", command) / "usr/bin/kubectl"
