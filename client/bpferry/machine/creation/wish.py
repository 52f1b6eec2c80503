# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the user asks for, and what is made of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

GIB: Final = 2**30

USUAL_MEMORY: Final = 2 * GIB
"""Debian's and Ubuntu's cloud images want 1 GiB, Fedora's 2 GiB."""

USUAL_DISK: Final = 10 * GIB
"""Of the new disk, if its image is smaller. It is sparse, and the guest's root grows into it."""

USUAL_VCPUS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The command line of ``bpferry create``; None where it leaves something to us."""

    name: str
    image: str
    image_format: str | None = None
    bridge: str | None = None
    network: str | None = None
    queues: int | None = None
    mac: bytes | None = None
    memory: int = USUAL_MEMORY
    """In bytes."""
    vcpus: int = USUAL_VCPUS
    disk_size: int | None = None
    """In bytes."""
    firmware: str | None = None
    user: str | None = None
    ssh_keys: tuple[str, ...] = ()
    """Paths of files with public keys."""


@dataclass(frozen=True, slots=True)
class BaseImage:
    """The image below the new disk, which is only read."""

    path: str
    format: str
    size: int
    """Of the disk that a guest sees in it, in bytes."""
    note: str = ""
    """What the user should know about how the format was found; may be empty."""


@dataclass(frozen=True, slots=True)
class Connection:
    """What the card of the new VM is connected to."""

    kind: str
    """``bridge``, ``network`` or ``user``."""
    source: str
    """The name of the bridge or network; empty for user networking."""
    queues: int
    mac: str
    ssh_port: int | None = None
    """The host's port that leads to the guest's ssh, with user networking."""
    notes: tuple[str, ...] = ()
    """Why it is this one, and what else could be had."""


@dataclass(frozen=True, slots=True)
class Login:
    """Who can log in to the new guest."""

    user: str
    password: str
    """For the console; ssh takes keys only."""
    keys: tuple[str, ...]
    """Public keys, each one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVm:
    """All that is known of a VM before anything is made."""

    name: str
    instance: str
    """An id that no other VM has: cloud-init sets up each instance once."""
    memory: int
    vcpus: int
    disk_size: int
    firmware: str
    """Empty for the machine's usual one."""
    image: BaseImage
    card: Connection
    login: Login
    description: Path
    folder: Path
    """Of the disk and the seed."""

    @property
    def disk(self) -> Path:
        """Where the new disk is."""
        return self.folder / "disk.qcow2"

    @property
    def seed(self) -> Path:
        """Where the seed is."""
        return self.folder / "seed.iso"
