# SPDX-License-Identifier: LGPL-2.1-or-later
"""A macvtap that root makes in a namespace and gives to a user, as a udev rule does.

A veth pair is between it and its peer: the macvtap is on ``eno1``, the other end is ``peer0``.
"""

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

PARENT: Final = "eno1"
PEER: Final = "peer0"

LOWEST_INDEX: Final = 2**29
"""The devices of all namespaces are in one /dev, and have their names from the index alone."""

Run = Callable[[Sequence[str]], object]
"""Runs a command in the namespace."""


def make_parent(run: Run) -> None:
    """Make the veth pair."""
    run(["ip", "link", "add", PARENT, "type", "veth", "peer", "name", PEER])
    for name in (PARENT, PEER):
        run(["ip", "link", "set", name, "up"])


def make_macvtap(run: Run, name: str, address: str, owner: int, mode: str = "bridge") -> Path:
    """Make the macvtap *name* on the parent, give it to *owner*, and return its device."""
    index = str(LOWEST_INDEX + int.from_bytes(os.urandom(4), "little") % LOWEST_INDEX)
    place = ["link", PARENT, "name", name, "index", index, "address", address]
    run(["ip", "link", "add", *place, "type", "macvtap", "mode", mode])
    # The guest alone has addresses behind it, and says which groups it is in to nobody.
    run(["ip", "link", "set", name, "addrgenmode", "none"])
    run(["ip", "link", "set", name, "allmulticast", "on", "up"])
    device = Path(f"/dev/tap{index}")
    assert stat.S_ISCHR(device.stat().st_mode)
    os.chown(device, owner, owner)
    device.chmod(0o600)
    return device
