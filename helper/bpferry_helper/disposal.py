# SPDX-License-Identifier: LGPL-2.1-or-later
"""Closes clients' sockets, without waiting for what clients have put into them.

Fds that a client sends are never taken in, but the kernel keeps them with their packet. Whoever
throws the packet away, or closes the socket, may be the last who has them, and then waits until the
kernel has closed them: for a TCP socket as long as its owner wished (SO_LINGER), for a thousand
taps of the sender's own many seconds. So the loop looks at a packet before it takes it. A socket
with fds in it is left to a thread that does nothing else, and a signal ends each wait for TCP.

Where the kernel can refuse fds on the sender's side (SO_PASSRIGHTS, Linux 6.16), it does.

Known hole: on older kernels, a client that sends many fds that take the kernel long to close, for
which no signal helps, can fill this thread's queue. Then no connection is accepted for a while.
"""

import signal
import socket
from collections import deque
from contextlib import suppress
from threading import Condition, Thread
from typing import Final

from bpferry_wire import channel

SO_PASSRIGHTS: Final = 83
"""asm-generic/socket.h."""

CREDENTIALS: Final = socket.CMSG_SPACE(12)
"""Room for struct ucred of unix(7) and for no fd."""

MAX_LOOKED_AT: Final = 16
"""Packets that the loop throws away itself. A client that sends requests has one or two there."""

MAX_WAITING: Final = 1024
"""Sockets that wait for the thread. An eighth of the bpf helper's LimitNOFILE=."""

NUDGE: Final = signal.SIGUSR1

NUDGE_S: Final = 0.002
"""How long the thread may wait for a TCP socket."""


def refuse_fds(listener: socket.socket) -> None:
    """Let the kernel refuse fds from those who connect to *listener* from now on, if it can."""
    with suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)


def take_nudges() -> None:
    """Let a nudge end a wait, and nothing else. Call it in the main thread."""
    signal.signal(NUDGE, lambda *_: None)


class Disposal:
    """Owns the sockets that it was given until they are closed. Called by the loop."""

    def __init__(self) -> None:
        self._waiting: deque[socket.socket] = deque()
        """The first one is being closed."""
        self._changed = Condition()
        self._thread = Thread(target=self._work, name="disposal", daemon=True)
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        """Whether a socket is being closed."""
        return bool(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether no more sockets should be accepted, since they cannot be closed."""
        return len(self._waiting) >= MAX_WAITING

    def turn_away(self, sock: socket.socket, packet: bytes) -> None:
        """Send *packet* if that works without waiting, and close *sock*.

        The client has sent its request, or is about to. If the socket were closed with that unread,
        the client would get ECONNRESET instead of our reply (net/unix/af_unix.c,
        unix_release_sock). So that is thrown away first.
        """
        is_empty = empty(sock)
        with suppress(OSError):
            channel.send(sock, packet)
        if is_empty:
            sock.close()
        else:
            self.add(sock)

    def add(self, sock: socket.socket) -> None:
        """Let the thread close *sock*, which ``empty`` did not."""
        with self._changed:
            self._waiting.append(sock)
            self._changed.notify()

    def nudge(self) -> None:
        """End the thread's wait for a TCP socket, if it waits. Needs ``take_nudges``."""
        if self._waiting and self._thread.ident is not None:
            with suppress(OSError):
                signal.pthread_kill(self._thread.ident, NUDGE)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
            _throw_away(self._waiting[0])
            self._waiting.popleft()


def empty(sock: socket.socket) -> bool:
    """Let nothing more in at *sock*, and throw away what is there, unless there are fds with it.

    Returns False if something may be left. The credentials that the kernel is asked for tell an
    empty packet from the end.
    """
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        sock.shutdown(socket.SHUT_RD)
        for _ in range(MAX_LOOKED_AT):
            with suppress(ConnectionError):
                _, packet, flags, _ = sock.recvmsg(1, CREDENTIALS, channel.MSG_PEEK)
                if not packet:
                    return True
                if flags & channel.MSG_CTRUNC:
                    return False
                sock.recv(1)
    return False


def _throw_away(sock: socket.socket) -> None:
    """Close *sock* and what is in it, however long that takes."""
    with sock, suppress(OSError):
        while sock.recvmsg(1, CREDENTIALS)[1]:
            pass
