# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt's session mode: the daemons of the user, and virsh.

The daemons are in a process namespace, whose end is the end of everything in it: libvirt's daemons
and QEMU go on without whoever started them.
"""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from guest.command import GuestError
from launchers.host import LauncherHost

DAEMONS: Final = "virtlogd & while libvirtd; do :; done & cat"
"""virsh would start them too, also a libvirtd that was told to end, but not where they end with us.
Like PID 1 of a host, the shell waits for each process whose parent has ended; it ends when its
standard input does."""

BRIDGE_HELPER: Final = "/usr/lib/qemu/qemu-bridge-helper"

PATIENCE_S: Final = 60.0
POLL_S: Final = 0.05


@contextmanager
def daemons(host: LauncherHost) -> Iterator[None]:
    """Start the user's libvirt, and end it with all its domains.

    Raises:
        GuestError: it did not start.
    """
    own = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--"]
    command = host.space.command([*own, *host.as_user(["sh", "-c", DAEMONS])])
    log = host.place.log("libvirt")
    with (
        log.open("wb") as file,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, stderr=file) as process,
    ):
        deadline = time.monotonic() + PATIENCE_S
        while not (host.place.home / "run/libvirt/libvirt-sock").exists():
            if time.monotonic() > deadline:
                raise GuestError(f"libvirt did not start: {log.read_text(errors='replace')}")
            time.sleep(POLL_S)
        yield
        if process.stdin is not None:
            process.stdin.close()


def copy_bridge_helper(host: LauncherHost) -> None:
    """Give *host* a bridge helper of its own, to be made usable."""
    copy = host.place.folder / "qemu-bridge-helper"
    shutil.copy(BRIDGE_HELPER, copy)
    host.space.run(["mount", "--bind", str(copy), BRIDGE_HELPER])
