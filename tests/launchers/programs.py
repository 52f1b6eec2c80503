# SPDX-License-Identifier: LGPL-2.1-or-later
"""Other launchers as Debian 13 packages them: scripts, unpacked; Debian 12 has neither."""

from pathlib import Path
from typing import Final

from tests import requires
from tests.support.debian_folder import FOLDER, find_or_build, mirror

PACKAGES: Final = (
    "quickemu", "virtme-ng", "python3-argcomplete", "python3-requests", "python3-urllib3",
    "python3-idna", "python3-certifi", "python3-chardet",
)  # fmt: skip
"""Both, and what virtme-ng imports. quickemu's other dependencies are programs for what no test
asks of it: viewers, downloads, sharing."""

UNPACK: Final = (
    'cd "$1" && export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" && '
    f"apt-get download {' '.join(PACKAGES)} && "
    'for file in *.deb; do dpkg-deb -x "$file" . || exit; done && rm ./*.deb'
)


def launchers() -> Path:
    """Return the folder that has them below usr/."""
    requires.mmdebstrap()
    command = [
        "mmdebstrap", "--variant=custom", f"--customize-hook={UNPACK}",
        "trixie", FOLDER, f"deb {mirror()} trixie main",
    ]  # fmt: skip
    return find_or_build("launchers", command)
