# SPDX-License-Identifier: LGPL-2.1-or-later
"""virsh in session mode."""

import shutil
from typing import Final

VIRSH: Final = ("virsh", "--quiet", "--keepalive-interval=0", "--connect", "qemu:///session")
"""Without keepalive: a daemon on a busy machine may answer after more than virsh's 30 s."""

PROGRAMS: Final = ("libvirtd", "virtlogd", "virsh")


def is_installed() -> bool:
    """Say whether this machine has all that a session takes."""
    return all(map(shutil.which, PROGRAMS))
