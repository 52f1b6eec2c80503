# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether the kernel that runs has a module, built in or as a file that can be loaded."""

from typing import Final

from bpferry.machine.doctor.kernel import RELEASE
from bpferry.machine.host_files import HostFiles

LISTS: Final = ("modules.dep", "modules.builtin")
"""What depmod writes below /lib/modules; each line has a path such as kernel/drivers/net/tun.ko."""

OTHER_KERNEL: Final = (
    "boot the distribution's own kernel; after an update of the kernel, restart the host"
)
"""What to do where a module is missing: often its files went away with an update."""


def is_missing(files: HostFiles, module: str) -> bool:
    """Say whether the kernel that runs certainly lacks *module*.

    Where there are no lists, as in a container, that is not known.
    """
    if files.exists(f"/sys/module/{module}"):
        return False
    folder = f"/lib/modules/{files.text(RELEASE)}"
    lists = [files.text(f"{folder}/{name}") for name in LISTS]
    return all(lists) and not any(f"/{module}.ko" in text for text in lists)
