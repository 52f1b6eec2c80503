# SPDX-License-Identifier: LGPL-2.1-or-later
"""eBPF sets from the helper, and whether they are what it says.

A set comes as one packet with its fds. Their number, kind, types, sizes and order have to match
what the helper says, what the kernel says, and, for an object that we know, what is known of it.
In case of doubt all of them are closed.
"""

import time
from collections.abc import Mapping
from typing import ClassVar, Final

from bpferry.errors import HelperError
from bpferry.network import connection
from bpferry.network.connection import Connection, Service
from bpferry_wire.errors import Code
from bpferry_wire.fds import BorrowedFd, Closing, OwnedFds
from bpferry_wire.messages import Can, CanReply, FdDescription, Load, LoadReply

LET_GO_SECONDS: Final = 5.0
"""A request that is answered with ``busy`` after so long has waited while others were served, until
the helper let go of it: after 12 s (WORK_S). Whoever is over their pace is told so at once."""


class GrantedSet(Closing):
    """The programs and maps of one loaded object, owned until closed."""

    def __init__(self, object_id: str, names: tuple[str, ...], fds: OwnedFds) -> None:
        """Take ownership of *fds*, which are called *names*, in the same order."""
        self.object_id = object_id
        self.names = names
        self._fds = fds

    def borrow(self) -> list[BorrowedFd]:
        """Return the fds: programs, then maps, as QEMU wants them."""
        return self._fds.borrow()

    def by_name(self) -> Mapping[str, BorrowedFd]:
        """Return the fds by the names of the functions and variables that they are."""
        return dict(zip(self.names, self._fds.borrow(), strict=True))

    def close(self) -> None:
        """Close all fds. Closing twice does nothing."""
        self._fds.close()


class BpfHelper(Connection):
    """The helper that loads eBPF objects."""

    service: ClassVar[Service] = connection.BPF

    def can(self, request: Load) -> CanReply:
        """Ask whether *request* would be fulfilled."""
        return self.ask_plain(Can(request), CanReply)

    def load(self, request: Load) -> GrantedSet:
        """Return a fresh set of the object that *request* names.

        If too many ask at once, it waits for its turn for as long as an answer may take, and once
        more: a VM that has started without its set does not get one later.

        Raises:
            NoHelper: nobody answers at the socket.
            Refused: policy does not allow it.
            HelperError: it failed, or what came is not what it should be.
        """
        reply, fds = self._ask_until_it_is_our_turn(request)
        try:
            check_set(request.object_id, reply.fds, fds)
        except BaseException:
            fds.close()
            raise
        return GrantedSet(request.object_id, tuple(fd.name for fd in reply.fds), fds)

    def _ask_until_it_is_our_turn(self, request: Load) -> tuple[LoadReply, OwnedFds]:
        begun = time.monotonic()
        while True:
            asked = time.monotonic()
            try:
                return self.ask(request, LoadReply)
            except HelperError as error:
                now = time.monotonic()
                was_let_go = error.code == Code.BUSY.value and now - asked >= LET_GO_SECONDS
                if not was_let_go or now - begun >= self._seconds:
                    raise
                # The helper closes it too.
                self.close()


def check_set(object_id: str, described: tuple[FdDescription, ...], fds: OwnedFds) -> None:
    """Raise HelperError unless *fds* are the set of *object_id* that they are said to be."""
    from bpferry.network.fdinfo import (  # noqa: PLC0415 - not for a dry run
        expected_by,
        read_description,
    )
    from bpferry_wire.objects import KNOWN  # noqa: PLC0415 - as above

    if len(described) != len(fds):
        raise HelperError(
            f"the helper described {len(described)} fds for '{object_id}' and sent {len(fds)}"
        )
    if object_id in KNOWN and described != expected_by(KNOWN[object_id]):
        raise HelperError(
            f"the helper's set is not the object '{object_id}' as this version knows it",
            "the versions of client, helper and QEMU may not fit together",
        )
    for said, fd in zip(described, fds, strict=True):
        found = read_description(fd.borrow(), said.name)
        if found != said:
            raise HelperError(
                f"the fd for '{said.name}' is not what the helper says: {_difference(said, found)}"
            )


def _difference(said: FdDescription, found: FdDescription) -> str:
    pairs = zip(said._fields, said, found, strict=True)
    return ", ".join(f"{field} {have}, not {want}" for field, want, have in pairs if want != have)
