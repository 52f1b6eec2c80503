# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether a bridge carries frames: one that is down takes taps all the same, and drops all of them.

A bridge that is not there is the helper's to refuse, and behind the name of a network the policy
has a bridge that only the helper knows.
"""

from collections.abc import Iterator
from typing import Final

from bpferry.domain.model.machine import Machine
from bpferry.domain.names import cards_of
from bpferry.machine.faults import Fault
from bpferry.machine.host_files import HOST, HostFiles

INTERFACES: Final = "/sys/class/net"

IFF_UP: Final = 0x1
"""linux/if.h."""


def find_bridges_down(machine: Machine, files: HostFiles = HOST) -> Iterator[Fault]:
    """Yield each card whose bridge is there and down."""
    for device in cards_of(machine):
        name = device.value.bridge
        if name and is_bridge(files, name) and is_down(files, name):
            yield Fault(
                f"{device.key}.bridge",
                "warning",
                f"the bridge '{name}' is down, so it carries no frame",
                fix=f"ask the administrator to run 'sudo ip link set {name} up'",
                kind="host",
            )


def is_bridge(files: HostFiles, name: str) -> bool:
    """Say whether this host has a bridge *name*; another kind of interface is none."""
    return "/" not in name and files.exists(f"{INTERFACES}/{name}/bridge")


def is_down(files: HostFiles, name: str) -> bool:
    """Say whether the interface *name* is not switched on."""
    try:
        return not int(files.text(f"{INTERFACES}/{name}/flags"), 0) & IFF_UP
    except ValueError:
        return True
