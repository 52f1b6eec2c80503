# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the fds of the cards come from: from the helpers and the kernel, or from nowhere.

A dry run asks nobody: names stand for the fds.

QEMU gets each fd under a number that its command line does not have yet. A launcher may name an fd
that it did not open; if ours had that number, QEMU would take it for the launcher's.
"""

import fcntl
import os
import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from bpferry.commandline.network.tap_card import set_names, tap_names, vhost_names
from bpferry.domain.model.cards import VHOST_DEVICE
from bpferry.errors import BpferryError, NoHelper, NotMember
from bpferry.network.bpf_helper import BpfHelper
from bpferry.network.connection import why_not
from bpferry.network.existing_tap import open_tap
from bpferry.network.tap_helper import TapHelper
from bpferry.network.vhost import open_vhost
from bpferry.steering.rungs import Granted, HelperAnswer
from bpferry_wire.fds import BorrowedFd
from bpferry_wire.messages import Load, Tap

FIRST: Final = 3
"""The lowest number of an fd that is not a standard stream."""

NUMBER: Final = re.compile(r"\d{1,9}")


class GivenTap(NamedTuple):
    """The queues of a tap, as words for QEMU, and what is said about it."""

    words: tuple[str, ...]
    text: str


class GivenSet(NamedTuple):
    """An eBPF set, as words for QEMU, and how its helper answered."""

    words: tuple[str, ...]
    answer: HelperAnswer


class Giver(Protocol):
    """Gives the fds of cards."""

    def allowed_queues(self, asked: Tap) -> int:
        """Return how many of the queues of *asked* are allowed.

        Raises:
            BpferryError: none at all.
        """

    def tap(self, name: str, asked: Tap) -> GivenTap:
        """Return the queues of a new tap for the card *name*."""

    def existing(self, name: str, interface: str, queues: int) -> GivenTap:
        """Return *queues* of the tap *interface*."""

    def ebpf(self, name: str, asked: Load) -> GivenSet:
        """Return a set; without fds, if the helper did not give one."""

    def vhost(self, name: str, queues: int) -> tuple[str, ...]:
        """Return an fd of vhost for each queue."""

    def keep(self) -> None:
        """Keep what the current card got, and begin with the next one."""

    def give_back(self) -> None:
        """Close what the current card got."""


class NoGiver:
    """Gives names, and does nothing."""

    def allowed_queues(self, asked: Tap) -> int:
        """Say what is asked for: nobody is asked."""
        return asked.queues

    def tap(self, name: str, asked: Tap) -> GivenTap:
        """Return names."""
        return GivenTap(tap_names(name, asked.queues), f"a tap on bridge '{asked.source}'")

    def existing(self, name: str, interface: str, queues: int) -> GivenTap:
        """Return names."""
        return GivenTap(tap_names(name, queues), f"the tap '{interface}'")

    def ebpf(self, name: str, asked: Load) -> GivenSet:  # noqa: ARG002 - as the others
        """Return names."""
        return GivenSet(set_names(name), Granted.NOT_ASKED)

    def vhost(self, name: str, queues: int) -> tuple[str, ...]:
        """Return names."""
        return vhost_names(name, queues)

    def keep(self) -> None:
        """Do nothing."""

    def give_back(self) -> None:
        """Do nothing."""


class HelpersGiver:
    """Gives what the helpers and the kernel give. What it opens belongs to a stack.

    A card that fails gives its fds back, which removes its tap too.
    """

    def __init__(self, argv: Iterable[str], taps: TapHelper, sets: BpfHelper) -> None:
        self._taken = {int(text) for word in argv for text in NUMBER.findall(word)}
        self._taps = taps
        self._sets = sets
        self._absent: NoHelper | NotMember | None = None
        self._current: list[int] = []
        self.kept: list[int] = []
        """The fds that QEMU gets. The process that becomes QEMU has them to its end."""

    def keep(self) -> None:
        """Keep what the current card got, and begin with the next one."""
        self.kept += self._current
        self._current = []

    def give_back(self) -> None:
        """Close what the current card got."""
        for number in self._current:
            os.close(number)
        self._current = []

    def allowed_queues(self, asked: Tap) -> int:
        """Ask for as many as are wanted, and if that is too many, for the most that is allowed."""
        if self._problem(asked, asked.queues) is None:
            return asked.queues
        problem = self._problem(asked, 1)
        if problem is not None:
            raise problem
        most, too_many = 1, asked.queues
        while too_many - most > 1:
            tried = (most + too_many) // 2
            if self._problem(asked, tried) is None:
                most = tried
            else:
                too_many = tried
        return most

    def _problem(self, asked: Tap, queues: int) -> BpferryError | None:
        return why_not(self._taps.can(asked._replace(queues=queues)))

    def tap(self, name: str, asked: Tap) -> GivenTap:  # noqa: ARG002 - as the others
        """Ask the helper for a new tap."""
        with self._taps.tap(asked) as tap:
            text = f"tap '{tap.interface}' on bridge '{tap.bridge}'"
            return GivenTap(self._pass(tap.borrow()), text)

    def existing(self, name: str, interface: str, queues: int) -> GivenTap:  # noqa: ARG002
        """Open the queues of a tap that is there."""
        with open_tap(interface, queues) as fds:
            return GivenTap(self._pass(fds.borrow()), f"the tap '{interface}'")

    def ebpf(self, name: str, asked: Load) -> GivenSet:  # noqa: ARG002 - as the others
        """Ask the helper; one that is not there is asked once."""
        if self._absent is not None:
            return GivenSet((), self._absent)
        try:
            with self._sets.load(asked) as loaded:
                return GivenSet(self._pass(loaded.borrow()), Granted.YES)
        except BpferryError as error:
            if isinstance(error, NoHelper | NotMember):
                self._absent = error
            return GivenSet((), error)

    def vhost(self, name: str, queues: int) -> tuple[str, ...]:  # noqa: ARG002 - as the others
        """Open the device of vhost, once for each queue."""
        with open_vhost(VHOST_DEVICE, queues) as fds:
            return self._pass(fds.borrow())

    def _pass(self, fds: Sequence[BorrowedFd]) -> tuple[str, ...]:
        """Return the numbers that *fds* will have in QEMU."""
        return tuple(str(self._number(fd)) for fd in fds)

    def _number(self, fd: BorrowedFd) -> int:
        lowest = FIRST
        while True:
            try:
                number = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
            except OSError as error:
                raise BpferryError(
                    f"no number is left for another fd: {error.strerror}",
                    "raise the limit of open files: ulimit -n",
                ) from error
            if number not in self._taken:
                break
            os.close(number)
            lowest = number + 1
        self._current.append(number)
        return number
