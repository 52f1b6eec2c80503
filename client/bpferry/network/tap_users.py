# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which processes of this user have a tap open, as /proc shows it.

The helper cannot see that: it is hidden from all processes of others. A tap that stays belongs to
its user, so the process is the user's own as a rule.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

PROCESSES: Final = Path("/proc")

TUN_DEVICE: Final = "/dev/net/tun"

INTERFACE: Final = "iff:\t"
"""Before the tap's name in the fdinfo of a queue (drivers/net/tun.c, tun_chr_show_fdinfo)."""


class User(NamedTuple):
    """A process that has a tap open."""

    pid: int
    name: str
    """The kernel's name for it: 15 characters of the program's."""


def find_users() -> dict[str, tuple[User, ...]]:
    """Return, for each tap that processes we may look into have open, those processes."""
    found: dict[str, dict[User, None]] = {}
    for process in PROCESSES.iterdir():
        if process.name.isdecimal():
            # It may be another user's, or end while it is looked at.
            with suppress(OSError):
                for interface in _taps_of(process):
                    user = User(int(process.name), _name_of(process))
                    found.setdefault(interface, {})[user] = None
    return {interface: tuple(sorted(users)) for interface, users in found.items()}


def _taps_of(process: Path) -> Iterator[str]:
    for number in os.listdir(process / "fd"):  # noqa: PTH208 - only the names
        with suppress(OSError):
            if str((process / "fd" / number).readlink()) == TUN_DEVICE:
                text = (process / "fdinfo" / number).read_text(encoding="utf-8", errors="replace")
                lines = (line for line in text.splitlines() if line.startswith(INTERFACE))
                yield from (line.removeprefix(INTERFACE) for line in lines)


def _name_of(process: Path) -> str:
    name = (process / "comm").read_text(encoding="utf-8", errors="replace").rstrip("\n")
    return "".join(character if character.isprintable() else "?" for character in name)
