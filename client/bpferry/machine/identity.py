# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which host this is and who the user is, for the addresses that a description leaves out.

/etc/machine-id is confidential (machine-id(5)), and what is made from it goes out with every packet
of a VM. So it is never used directly, but as the key of a hash that only bpferry makes, like
sd_id128_get_machine_app_specific(3); nobody can compute the id from that.

A container or a small root file system may have no machine id. Then D-Bus's id is used, and if that
is missing the name of the host, which another host may have too; the user is told.
"""

import os
import re
import socket
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from bpferry.domain.digest import keyed_sha256, uuid5
from bpferry.domain.identity import Owner
from bpferry.steering.plan import Notice

MACHINE_ID_FILES: Final = ("/etc/machine-id", "/var/lib/dbus/machine-id")
"""In this order; if both exist, they are usually the same file."""

APPLICATION: Final = uuid.UUID("6b56b37e-341f-4b0d-8a57-d745a61a63b6")
"""Identifies bpferry among the programs that derive an id from the machine's."""

MACHINE_ID: Final = re.compile(r"(?!0{32})[0-9a-fA-F]{32}")
"""Neither empty nor "uninitialized", as the file is in an image that has never been booted."""


class Identity(Struct, frozen=True):
    """The owner of the VMs that are started here."""

    owner: Owner
    doubt: Notice | None
    """Set if another host could have the same identity."""


def find_identity(files: Sequence[str] = MACHINE_ID_FILES) -> Identity:
    """Return our identity, by the first of *files* that has the id of a machine."""
    uid = os.getuid()
    for file in files:
        machine = _read_machine_id(Path(file))
        if machine is not None:
            return Identity(Owner(derive_host(machine), uid), None)
    name = socket.gethostname()
    return Identity(Owner(uuid5(APPLICATION, name), uid), _by_name(name, files[0]))


def derive_host(machine: uuid.UUID) -> uuid.UUID:
    """Return the id of the machine *machine* for bpferry alone.

    ``systemd-id128 machine-id --app-specific=APPLICATION`` prints the same.
    """
    digest = keyed_sha256(machine.bytes, APPLICATION.bytes)
    return uuid.UUID(bytes=digest[:16], version=4)


def _read_machine_id(path: Path) -> uuid.UUID | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return uuid.UUID(text) if MACHINE_ID.fullmatch(text) else None


def _by_name(name: str, file: str) -> Notice:
    return Notice(
        f"this host has no machine id ('{file}'), so the UUID and the MAC addresses that the "
        f"description leaves out are computed from the host's name, '{name}': on another host of "
        "that name, a VM of this name and user would have the same",
        "name them in the description, with 'uuid' and 'mac'; or ask the administrator to run "
        "systemd-machine-id-setup, which changes them once",
    )
