# SPDX-License-Identifier: LGPL-2.1-or-later
"""The loop that serves all clients: one thread, no waiting, a deadline per client.

While a reply with fds is still on its way to a client, that client gets no other (``connection``).
The kernel counts fds in flight against the sending user, and past RLIMIT_NOFILE every send by the
helper would fail (net/unix/scm.c, too_many_unix_fds), to other clients too. Closing our end does
not take them back. So there is at most one undelivered grant per connection, at most MAX_PER_UID
connections per account (``door``), and a quota for what outlives the connections.
"""

import errno
import select
import socket
import sys
import time
from typing import Final

from bpferry_helper.activation import Notifier
from bpferry_helper.connected import Connected
from bpferry_helper.disposal import NUDGE_S, Disposal, refuse_fds
from bpferry_helper.door import Door
from bpferry_helper.errors import NO_RESOURCES
from bpferry_helper.exchange import Accounts, Service
from bpferry_helper.identity import Credentials, Peer
from bpferry_helper.log import LINES_AT_ONCE, LINES_PER_SECOND, WARNING, log
from bpferry_helper.rate import ALL, TokenBuckets
from bpferry_helper.requests import Requests

MAX_ACCEPTS: Final = 64
"""Accepted in a row before connected clients get their turn."""

BACKLOG: Final = 128
"""Connections that wait for accept(2). During a flood, the queue is full whatever its length, and a
client that gets in waits for all before it: 5 ms here, 0.2 s with the kernel's 4,096, and many
times that on a busy host. Until they get in, clients try again."""

ACCEPT_PAUSE_S: Final = 0.2
"""When out of fds or memory; clients wait in the socket's backlog meanwhile."""

JOB_STUCK_S: Final = 20.0
"""A load takes 0.07 s. If a job takes longer than this, we stop feeding the watchdog."""

SWITCH_S: Final = 0.0005
"""How long a thread waits for the GIL before its holder must release it. A load takes the GIL about
60 times: with Python's 5 ms, a load would take 0.3 s longer while the loop is busy."""

LOOK_S: Final = 0.25
"""How often to look for connections past their deadline."""

CANNOT_ACCEPT: Final = NO_RESOURCES | {errno.ENOBUFS}
"""Errors of accept(2) that are not about the client."""


class Server:
    """Serves one listening socket until no client has come for a while."""

    def __init__(
        self, listener: socket.socket, service: Service, notifier: Notifier, accounts: Accounts
    ) -> None:
        """Borrow *listener*; *accounts* knows the account of a uid."""
        # Again: systemd's queue is long, for the clients that come while the helper starts.
        listener.listen(BACKLOG)
        refuse_fds(listener)
        self._listener = listener
        self._service = service
        self._notifier = notifier
        self._accounts = accounts
        self._epoll = select.epoll()
        self._disposal = Disposal()
        self._connected = Connected(self._epoll, self._left, self._disposal)
        self._door = Door(accounts, self._welcome, self._connected.make_room, self._disposal)
        self._requests = Requests(service, accounts, self._door, self._connected)
        self._log_bucket = TokenBuckets()
        self._accept_again = 0.0
        self._pet_again = 0.0
        self._idle_since = time.monotonic()
        self._look_again = 0.0
        self._has_answered = False
        """Whether the client that was admitted last has had its answer."""
        self._epoll.register(listener, select.EPOLLIN)
        self._epoll.register(self._requests.workers.wake_fd, select.EPOLLIN)
        self._epoll.register(accounts.wake_fd, select.EPOLLIN)

    def serve(self) -> None:
        """Serve until idle for long enough."""
        sys.setswitchinterval(SWITCH_S)
        self._notifier.tell("READY=1")
        while not self._idle_for_long():
            for fd, _ in self._epoll.poll(self._patience_s()):
                self._handle(fd)
            self._requests.serve_paced()
            self._disposal.nudge()
            self._close_late()
            self._resume_accepting()
            self._pet_watchdog()
        self._notifier.tell("STOPPING=1")

    def _handle(self, fd: int) -> None:
        if fd == self._listener.fileno():
            self._accept_some()
        elif fd == self._requests.workers.wake_fd:
            self._requests.deliver()
        elif fd == self._accounts.wake_fd:
            self._door.admit_named()
        else:
            connection = self._connected.with_fd(fd)
            if connection is not None:
                self._requests.read(connection)

    # -- new clients

    def _accept_some(self) -> None:
        """Accept those who wait, until one of them has an answer.

        That one may be back already, and again after each answer: if we went on, until we had as
        many of its connections as it may have, all closed at its end.
        """
        self._has_answered = False
        for _ in range(MAX_ACCEPTS):
            if self._has_answered:
                return
            if self._disposal.is_full:
                self._pause_accepting("what clients pushed takes long to close")
                return
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in CANNOT_ACCEPT:
                    self._pause_accepting(error.strerror or str(error))
                # Anything else is about a client that left before it was accepted.
                return
            sock.setblocking(False)  # noqa: FBT003 - the function's own signature
            self._door.admit(sock)

    def _pause_accepting(self, why: str) -> None:
        if not self._log_bucket.take(ALL, LINES_AT_ONCE, LINES_PER_SECOND):
            log(WARNING, f"cannot accept clients for now: {why}, ignoring")
        self._epoll.unregister(self._listener)
        self._accept_again = time.monotonic() + ACCEPT_PAUSE_S

    def _resume_accepting(self) -> None:
        if not self._accept_again or time.monotonic() < self._accept_again:
            return
        try:
            self._epoll.register(self._listener, select.EPOLLIN)
        except OSError:
            # There is still no memory, which was logged when the pause began.
            self._accept_again = time.monotonic() + ACCEPT_PAUSE_S
        else:
            self._accept_again = 0.0

    def _welcome(self, sock: socket.socket, who: Credentials, peer: Peer) -> None:
        connection = self._connected.add(sock, who, peer)
        if connection is None:
            return
        # Most have sent their request already, and flooding clients have hung up.
        self._requests.read(connection)
        self._has_answered = bool(connection.packet) and connection.is_quiet

    # -- the end of a connection, and of the helper

    def _left(self, peer: Peer) -> None:
        self._door.left(peer)
        self._idle_since = time.monotonic()

    def _close_late(self) -> None:
        now = time.monotonic()
        if now < self._look_again:
            return
        self._look_again = now + LOOK_S
        # Also of what no worker could tell us.
        self._requests.deliver()
        self._connected.close_late(now)
        waits_until = self._door.next_deadline()
        if waits_until is not None and now >= waits_until:
            self._door.admit_named()

    def _idle_for_long(self) -> bool:
        if self._service.is_needed() or self._requests.workers.oldest_s():
            self._idle_since = time.monotonic()
        idle_s = time.monotonic() - self._idle_since
        return self._door.is_quiet and idle_s >= self._accounts.idle_exit_s()

    def _patience_s(self) -> float:
        """Return how many seconds the loop can wait."""
        now = time.monotonic()
        ends = []
        if self._door.is_quiet:
            ends.append(self._idle_since + self._accounts.idle_exit_s())
        else:
            ends.append(now + LOOK_S)
        ends.append(self._requests.pacing.next_end())
        if self._disposal.is_busy:
            ends.append(now + NUDGE_S)
        if self._accept_again:
            ends.append(self._accept_again)
        if self._notifier.watchdog_s:
            ends.append(self._pet_again)
        return max(0.0, min(ends) - now)

    def _pet_watchdog(self) -> None:
        now = time.monotonic()
        if not self._notifier.watchdog_s or now < self._pet_again:
            return
        self._pet_again = now + self._notifier.watchdog_s / 2
        if not self._service.may_be_killed or self._requests.workers.oldest_s() < JOB_STUCK_S:
            self._notifier.tell("WATCHDOG=1")
