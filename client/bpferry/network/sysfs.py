# SPDX-License-Identifier: LGPL-2.1-or-later
"""An interface in sysfs, which has what rtnetlink does not say.

sysfs may be that of another network namespace, where the name may mean another interface; so the
numbers of both have to be the same.
"""

import os
import socket
from typing import Final

FOLDER: Final = "/sys/class/net/{}"
TRANSMIT: Final = "tx-"
"""Before the number of a queue that the kernel sends from: those that a guest receives on."""


def find_folder(interface: str) -> str:
    """Return the folder of *interface*; empty if there is none, or only of a namesake elsewhere."""
    folder = FOLDER.format(interface)
    try:
        index = socket.if_nametoindex(interface)
        # pathlib would take longer to import than all this takes.
        with open(f"{folder}/ifindex", encoding="ascii") as file:  # noqa: PTH123
            return folder if int(file.read()) == index else ""
    except (OSError, ValueError):
        return ""


def count_queues(tap: str) -> int | None:
    """Return how many queues of *tap* are switched on; None if that cannot be known.

    QEMU detaches those that the guest has not switched on (IFF_DETACH_QUEUE), and the kernel then
    has fewer queues to send from (tun_set_real_num_queues, drivers/net/tun.c). rtnetlink has only
    how many there may be (IFLA_NUM_TX_QUEUES).
    """
    folder = find_folder(tap)
    try:
        # A macvtap, which has no such file, has all its queues at all times.
        if not folder or not os.path.exists(f"{folder}/tun_flags"):  # noqa: PTH110
            return None
        queues = os.listdir(f"{folder}/queues")  # noqa: PTH208
    except OSError:
        return None
    return sum(name.startswith(TRANSMIT) for name in queues) or None
