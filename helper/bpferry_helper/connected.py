# SPDX-License-Identifier: LGPL-2.1-or-later
"""The clients that are connected: which are read, which wait, and which have to go.

A client cannot keep its place by saying nothing: one with no request in progress is closed at its
deadline, and an account with many connections loses one when there is no room for another account.
The result of a job is found by the connection's number, which is never used again. So it cannot
reach another client that got the same fd.
"""

import select
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from bpferry_helper.connection import WORK_S, Connection, State
from bpferry_helper.disposal import Disposal, empty
from bpferry_helper.door import TOO_MANY_OF_ALL
from bpferry_helper.identity import Credentials, Peer
from bpferry_helper.log import LINES_AT_ONCE, LINES_PER_SECOND, WARNING, log
from bpferry_helper.rate import ALL, TokenBuckets
from bpferry_wire import channel
from bpferry_wire.errors import Code
from bpferry_wire.messages import ErrorReply
from bpferry_wire.packets import encode_reply

TOO_LONG: Final = encode_reply(
    ErrorReply(
        Code.BUSY,
        f"the request has not been done within {WORK_S:.0f} s",
        "try again later; the kernel may be locked by other changes of the host's network",
    )
)


class Connected:
    """The open connections. Owns them; everything here is called by the loop."""

    def __init__(
        self, epoll: select.epoll, left: Callable[[Peer], None], disposal: Disposal
    ) -> None:
        """Borrow *epoll*; *left* is called with the peer of each connection that is closed.

        *disposal* closes those that hold what a client pushed.
        """
        self._epoll = epoll
        self._left = left
        self._disposal = disposal
        self._by_fd: dict[int, Connection] = {}
        self._by_number: dict[int, Connection] = {}
        self._next_number = 1
        self._log_bucket = TokenBuckets()

    def add(self, sock: socket.socket, who: Credentials, peer: Peer) -> Connection | None:
        """Take ownership of *sock*, and read from it from now on; None if it had to be closed."""
        connection = Connection(sock, who, peer, self._next_number)
        self._next_number += 1
        self._by_fd[sock.fileno()] = connection
        self._by_number[connection.number] = connection
        return connection if self._watch(connection) else None

    def with_fd(self, fd: int) -> Connection | None:
        """Return the connection whose socket is *fd*, or None if it was closed."""
        return self._by_fd.get(fd)

    def with_number(self, number: int) -> Connection | None:
        """Return the connection with this *number*, or None if it was closed."""
        return self._by_number.get(number)

    def stop_reading(self, connection: Connection, state: State) -> None:
        """Leave *connection* unread while it is in *state*."""
        connection.before, connection.state = connection.state, state
        try:
            self._epoll.unregister(connection.sock)
        except OSError as error:
            self._close_unwatched(connection, error)

    def read_again(self, connection: Connection) -> bool:
        """Read from *connection* again, in the state that it had before.

        Return whether it is still there: see ``_watch``.
        """
        connection.state = connection.before
        return self._watch(connection)

    def _watch(self, connection: Connection) -> bool:
        """Have epoll tell of *connection*, or close it: return whether that was possible.

        The kernel may have no memory for it, or this user watches too many files
        (fs.epoll.max_user_watches). That is no reason to end, and to lose all others.
        """
        try:
            self._epoll.register(connection.sock, select.EPOLLIN)
        except OSError as error:
            self._close_unwatched(connection, error)
            return False
        return True

    def _close_unwatched(self, connection: Connection, error: OSError) -> None:
        if not self._log_bucket.take(ALL, LINES_AT_ONCE, LINES_PER_SECOND):
            who = connection.peer.who
            log(WARNING, f"cannot watch the connection of {who}: {error.strerror}, closing it")
        self.close(connection)

    def close(self, connection: Connection) -> None:
        """Close *connection*, unless it is closed already."""
        if self._by_number.pop(connection.number, None) is None:
            return
        del self._by_fd[connection.sock.fileno()]
        self._left(connection.peer)
        if empty(connection.sock):
            connection.sock.close()
            return
        # It is not watched while a request of it is in progress, or if the kernel has no memory.
        with suppress(OSError):
            self._epoll.unregister(connection.sock)
        self._disposal.add(connection.sock)

    def make_room(self, uid: int) -> None:
        """End a connection of *uid*, if possible one for which no worker works."""
        own = (c for c in self._by_fd.values() if c.peer.uid == uid)
        one = min(own, key=lambda c: (c.state is State.WORKING, c.deadline))
        with suppress(OSError):
            channel.send(one.sock, TOO_MANY_OF_ALL)
        self.close(one)

    def close_late(self, now: float) -> None:
        """Close those that have not sent a request by their deadline, or not got an answer."""
        for connection in list(self._by_fd.values()):
            if now < connection.deadline or connection.state is State.PACED:
                continue
            if connection.state is State.WORKING:
                self._give_up(connection)
            self.close(connection)

    def _give_up(self, connection: Connection) -> None:
        """Tell the client that its request takes too long."""
        with suppress(OSError):
            channel.send(connection.sock, TOO_LONG)
        if not self._log_bucket.take(ALL, LINES_AT_ONCE, LINES_PER_SECOND):
            what = f"a request of {connection.peer.who_asks}"
            log(WARNING, f"{what} has no answer after {WORK_S:.0f} s: the client was told 'busy'")
