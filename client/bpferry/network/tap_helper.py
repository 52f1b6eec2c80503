# SPDX-License-Identifier: LGPL-2.1-or-later
"""Taps from the helper, and whether they are what it says.

A tap comes as one packet with an fd for each queue. There have to be as many as were asked for, and
according to the kernel each has to be an open queue of the tap that the helper names. In case of
doubt all of them are closed, and the tap disappears with the last one.
"""

import os
import re
from typing import ClassVar, Final

from bpferry.network import connection, tun
from bpferry.network.connection import Connection, Service
from bpferry_wire.fds import BorrowedFd, Closing, OwnedFds
from bpferry_wire.messages import (
    Can,
    CanReply,
    Create,
    Delete,
    DeleteReply,
    ListReply,
    ListTaps,
    OwnTap,
    Tap,
    TapReply,
)

INTERFACE: Final = r"[A-Za-z0-9]+"
"""The names that helpers give, which are safe in a shell command and in XML."""


class GrantedTap(Closing):
    """A tap on a bridge, owned until closed. It disappears with its last fd."""

    def __init__(self, reply: TapReply, fds: OwnedFds) -> None:
        """Take ownership of *fds*, one for each queue."""
        self.interface = reply.interface
        self.bridge = reply.bridge
        self.mtu = reply.mtu
        self.queues = len(fds)
        self._fds = fds

    def borrow(self) -> list[BorrowedFd]:
        """Return the fds of the queues."""
        return self._fds.borrow()

    def close(self) -> None:
        """Close all fds. Closing twice does nothing."""
        self._fds.close()


class TapHelper(Connection):
    """The helper that makes taps."""

    service: ClassVar[Service] = connection.TAP

    def can(self, request: Tap | Create) -> CanReply:
        """Ask whether *request* would be fulfilled."""
        return self.ask_plain(Can(request), CanReply)

    def tap(self, request: Tap) -> GrantedTap:
        """Return a fresh tap as *request* describes it.

        Raises:
            NoHelper: nobody answers at the socket.
            Refused: policy does not allow it.
            HelperError: it failed, or what came is not what it should be.
        """
        reply, fds = self.ask(request, TapReply)
        try:
            self._check_reply(request, reply)
            self._check_queues(request, reply, fds)
        except BaseException:
            fds.close()
            raise
        return GrantedTap(reply, fds)

    def create(self, tap: Tap) -> TapReply:
        """Make a tap that stays, belongs to us, and has no open queues.

        Raises:
            BpferryError: as ``tap`` does.
        """
        reply = self.ask_plain(Create(tap), TapReply)
        self._check_reply(tap, reply)
        return reply

    def list(self) -> tuple[OwnTap, ...]:
        """Return our taps."""
        return self.ask_plain(ListTaps(), ListReply).taps

    def delete(self, interface: str) -> None:
        """Delete a tap of ours that was made to stay.

        Raises:
            BpferryError: the helper says no, or failed.
        """
        gone = self.ask_plain(Delete(interface), DeleteReply).interface
        if gone != interface:
            raise self.unsound(f"it says that it deleted '{gone}', not '{interface}'")

    def _check_reply(self, request: Tap, reply: TapReply) -> None:
        if not re.fullmatch(INTERFACE, reply.interface):
            raise self.unsound(f"a tap of the name {reply.interface!r}")
        if not request.is_network and reply.bridge != request.source:
            raise self.unsound(f"a tap on the bridge '{reply.bridge}', not '{request.source}'")
        if request.mtu is not None and reply.mtu < request.mtu:
            raise self.unsound(f"a tap with the MTU {reply.mtu}, where {request.mtu} is asked for")

    def _check_queues(self, request: Tap, reply: TapReply, fds: OwnedFds) -> None:
        if len(fds) != request.queues:
            raise self.unsound(f"{len(fds)} fds for a tap with {request.queues} queues")
        for queue, fd in enumerate(fds):
            problem = _find_problem(fd.borrow(), reply.interface, request.queues)
            if problem:
                raise self.unsound(f"fd {queue} of the tap '{reply.interface}' is {problem}")
        if not tun.are_distinct(fds.borrow()):
            raise self.unsound(f"the same queue of the tap '{reply.interface}' twice")


def _find_problem(fd: BorrowedFd, interface: str, queues: int) -> str:
    """Return what *fd* is, if it is not one of *queues* of *interface*; empty if it is."""
    try:
        found = tun.identify(fd)
    except OSError as error:
        return f"no queue of a tap ({os.strerror(error.errno or 0)})"
    if found.interface != interface:
        return f"a queue of '{found.interface}'"
    if not tun.is_writable(fd):
        return "not open for reading and writing"
    return tun.describe_difference(found.flags, tun.queue_flags(queues))
