# SPDX-License-Identifier: LGPL-2.1-or-later
"""The words of a QEMU command line, as QEMU itself divides them (lookup_opt in system/vl.c).

An option begins with one dash or two, and its argument is the next word, whatever that looks like.
A word that is neither is the image of a disk. What takes no argument is listed here, since only
that tells where an argument begins; the rest takes one.

This module imports nothing of ours: it is on the way of a start that changes nothing.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

NO_ARGUMENT: Final = frozenset({
    "S", "alt-grab", "ctrl-grab", "curses", "daemonize", "enable-fips", "enable-kvm",
    "enable-sync-profile", "full-screen", "h", "help", "jitdump", "mem-prealloc", "no-acpi",
    "no-fd-bootchk", "no-hpet", "no-reboot", "no-shutdown", "no-user-config", "nodefaults",
    "nographic", "old-param", "one-insn-per-tb", "only-migratable", "perfmap", "portrait",
    "preconfig", "s", "sdl", "semihosting", "singlestep", "snapshot", "usb", "version",
    "win2k-hack", "xen-attach", "xen-domid-restrict",
})  # fmt: skip
"""Options without an argument, of QEMU 6.2 to 11.1 (qemu-options.hx, where HAS_ARG is missing)."""

NETWORK: Final = ("netdev", "nic", "net")
"""The options that say what is behind a card."""


class Option(NamedTuple):
    """One option of a command line."""

    place: int
    """Which word it is, counted from the program's name, which is word 0."""
    name: str
    """Without its dashes."""
    value: str | None = None
    """The next word; None if the option has no argument, or if the line ends before it."""

    @property
    def words(self) -> int:
        """How many words it takes."""
        return 1 if self.value is None else 2


def read_options(argv: Sequence[str]) -> Iterator[Option]:
    """Yield the options of *argv*, whose first word is the program."""
    place = 1
    while place < len(argv):
        word = argv[place]
        if not word.startswith("-"):
            place += 1
            continue
        name = word.removeprefix("-").removeprefix("-")
        has_value = name not in NO_ARGUMENT and place + 1 < len(argv)
        option = Option(place, name, argv[place + 1] if has_value else None)
        yield option
        place += option.words


def has_network(argv: Sequence[str]) -> bool:
    """Say whether *argv* says anything about what is behind a card."""
    return any(option.name in NETWORK for option in read_options(argv))
