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

from bpferry_helper.connection import Connection, State
from bpferry_helper.door import TOO_MANY_OF_ALL
from bpferry_helper.identity import Credentials, Peer
from bpferry_wire import channel


class Connected:
    """The open connections. Owns them; everything here is called by the loop."""

    def __init__(self, epoll: select.epoll, left: Callable[[Peer], None]) -> None:
        """Borrow *epoll*; *left* is called with the peer of each connection that is closed."""
        self._epoll = epoll
        self._left = left
        self._by_fd: dict[int, Connection] = {}
        self._by_number: dict[int, Connection] = {}
        self._next_number = 1

    def add(self, sock: socket.socket, who: Credentials, peer: Peer) -> Connection:
        """Take ownership of *sock*, and read from it from now on."""
        connection = Connection(sock, who, peer, self._next_number)
        self._next_number += 1
        self._by_fd[sock.fileno()] = connection
        self._by_number[connection.number] = connection
        self._epoll.register(sock, select.EPOLLIN)
        return connection

    def with_fd(self, fd: int) -> Connection | None:
        """Return the connection whose socket is *fd*, or None if it was closed."""
        return self._by_fd.get(fd)

    def with_number(self, number: int) -> Connection | None:
        """Return the connection with this *number*, or None if it was closed."""
        return self._by_number.get(number)

    def stop_reading(self, connection: Connection, state: State) -> None:
        """Leave *connection* unread while it is in *state*."""
        connection.before, connection.state = connection.state, state
        self._epoll.unregister(connection.sock)

    def read_again(self, connection: Connection) -> None:
        """Read from *connection* again, in the state that it had before."""
        connection.state = connection.before
        self._epoll.register(connection.sock, select.EPOLLIN)

    def close(self, connection: Connection) -> None:
        """Close *connection*, unless it is closed already."""
        fd = connection.sock.fileno()
        if fd < 0:
            return
        del self._by_fd[fd]
        del self._by_number[connection.number]
        self._left(connection.peer)
        connection.sock.close()

    def make_room(self, uid: int) -> None:
        """End a connection of *uid*, if possible one for which no worker works."""
        own = (c for c in self._by_fd.values() if c.peer.uid == uid)
        one = min(own, key=lambda c: (c.state is State.WORKING, c.deadline))
        with suppress(OSError):
            channel.send(one.sock, TOO_MANY_OF_ALL)
        self.close(one)

    def close_late(self, now: float) -> None:
        """Close the connections that have not sent a request by their deadline."""
        for connection in list(self._by_fd.values()):
            if connection.is_quiet and now >= connection.deadline:
                self.close(connection)
