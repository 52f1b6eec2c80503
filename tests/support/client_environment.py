# SPDX-License-Identifier: LGPL-2.1-or-later
"""A hook of mmdebstrap that fetches what tools/install would fetch from a package index."""

from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[2]

CLONE: Final = {"CLONE": str(REPOSITORY)}
"""What the hook looks at: a variable, so that where the clone lies does not make another folder."""

HOOK: Final = """\
mkdir -p "$1/etc/ssl/certs" "$1/srv/bpferry"
unshare --mount sh -ec '
    mount --bind /etc/ssl/certs "$1/etc/ssl/certs"
    mount --bind "$CLONE" "$1/srv/bpferry"
    chroot "$1" sh -ec "
        repository=/srv/bpferry
        . /srv/bpferry/tools/prepare/packages.sh
        make_venv /usr/local/lib/bpferry/venv client"
' sh "$1"
# %s
"""
"""As tools/install makes it; there it finds that nothing is missing. The comment is the list."""


def client_environment() -> str:
    """Return the hook. It is another one when the list of packages is."""
    lines = (REPOSITORY / "tools/prepare/client.txt").read_text(encoding="utf-8").splitlines()
    return HOOK % " ".join(line for line in lines if line[:1] not in {"", "#"})
