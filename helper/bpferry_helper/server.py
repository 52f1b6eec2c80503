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
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from heapq import heappop, heappush
from typing import Final

from bpferry_helper.activation import Notifier
from bpferry_helper.connection import NEXT_REQUEST_S, Connection, State, untaken_bytes
from bpferry_helper.door import TOO_MANY_OF_ALL, Door
from bpferry_helper.errors import NO_RESOURCES, RequestError
from bpferry_helper.exchange import Accounts, Answer, Asked, Service, Work
from bpferry_helper.identity import FEW_GROUPS, Credentials, IdentityError, Peer, group_count
from bpferry_helper.log import INFO, WARNING, log
from bpferry_helper.rate import FairPace, Pace, TokenBuckets
from bpferry_helper.work import Done, Job, Workers, log_fault
from bpferry_wire import channel
from bpferry_wire.errors import BadMessage, Code, PeerClosed
from bpferry_wire.messages import ErrorReply, Request
from bpferry_wire.packets import decode_request, encode_reply

MAX_ACCEPTS: Final = 64
"""Accepted in a row before connected clients get their turn."""

ACCEPT_PAUSE_S: Final = 0.2
"""When out of fds or memory; clients wait in the socket's backlog meanwhile."""

JOB_STUCK_S: Final = 20.0
"""A load takes 0.07 s. If a job takes longer than this, we stop feeding the watchdog."""

REFUSALS_LOGGED_AT_ONCE: Final = 10
REFUSALS_LOGGED_PER_SECOND: Final = 1
"""Per user, so that nobody can push another user's lines out of the journal."""

OWN_PACE: Final = Pace(at_once=32, per_second=4)
SHARED_PACE: Final = Pace(at_once=256, per_second=256)
"""Requests of each user, and what all users together may ask beyond that. A cheap request such as
hello takes 0.3 ms: 64 flooding users take a seventh of a CPU."""

OWN_LONG_PACE: Final = Pace(at_once=16, per_second=1)
SHARED_LONG_PACE: Final = Pace(at_once=16, per_second=16)
"""The same for lists of more than FEW_GROUPS groups: each takes a worker up to 10 ms."""

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
        self,
        listener: socket.socket,
        service: Service,
        notifier: Notifier,
        accounts: Accounts,
    ) -> None:
        """Borrow *listener*; *accounts* knows the account of a uid."""
        self._listener = listener
        self._service = service
        self._notifier = notifier
        self._accounts = accounts
        self._door = Door(accounts, self._welcome, self._make_room)
        self._workers = Workers()
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._by_number: dict[int, Connection] = {}
        self._next_number = 1
        self._accept_again = 0.0
        self._pet_again = 0.0
        self._idle_since = time.monotonic()
        self._look_again = 0.0
        self._pace = FairPace(OWN_PACE, SHARED_PACE)
        self._long_pace = FairPace(OWN_LONG_PACE, SHARED_LONG_PACE)
        self._paced: list[tuple[float, int]] = []
        """When waiting requests may be served, and on which connections; a heap."""
        self._log_buckets = TokenBuckets()
        self._epoll.register(listener, select.EPOLLIN)
        self._epoll.register(self._workers.wake_fd, select.EPOLLIN)
        self._epoll.register(accounts.wake_fd, select.EPOLLIN)

    def serve(self) -> None:
        """Serve until idle for long enough."""
        sys.setswitchinterval(SWITCH_S)
        self._notifier.tell("READY=1")
        while not self._idle_for_long():
            for fd, _ in self._epoll.poll(self._patience_s()):
                self._handle(fd)
            self._serve_paced()
            self._close_late()
            self._resume_accepting()
            self._pet_watchdog()
        self._notifier.tell("STOPPING=1")

    def _handle(self, fd: int) -> None:
        if fd == self._listener.fileno():
            self._accept_some()
        elif fd == self._workers.wake_fd:
            for done in self._workers.results():
                self._deliver(done)
        elif fd == self._accounts.wake_fd:
            self._door.admit_named()
        elif fd in self._connections:
            self._read(self._connections[fd])

    # -- new clients

    def _accept_some(self) -> None:
        for _ in range(MAX_ACCEPTS):
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in CANNOT_ACCEPT:
                    self._pause_accepting(error)
                # Anything else is about a client that left before it was accepted.
                return
            sock.setblocking(False)  # noqa: FBT003 - the function's own signature
            self._door.admit(sock)

    def _pause_accepting(self, error: OSError) -> None:
        log(WARNING, f"cannot accept clients for now: {error.strerror}, ignoring")
        self._epoll.unregister(self._listener)
        self._accept_again = time.monotonic() + ACCEPT_PAUSE_S

    def _resume_accepting(self) -> None:
        if self._accept_again and time.monotonic() >= self._accept_again:
            self._accept_again = 0.0
            self._epoll.register(self._listener, select.EPOLLIN)

    def _welcome(self, sock: socket.socket, who: Credentials, peer: Peer) -> None:
        connection = Connection(sock, who, peer, self._next_number)
        self._next_number += 1
        self._connections[sock.fileno()] = connection
        self._by_number[connection.number] = connection
        self._epoll.register(sock, select.EPOLLIN)
        # Most have sent their request already, and flooding clients have hung up.
        self._read(connection)

    # -- requests

    def _read(self, connection: Connection) -> None:
        try:
            connection.packet = channel.receive_bare(connection.sock)
        except BlockingIOError:
            return
        except (PeerClosed, ConnectionError):
            self._close(connection)
            return
        except BadMessage as error:
            self._refuse_and_close(connection, error)
            return
        self._serve(connection)

    def _serve(self, connection: Connection) -> None:
        """Serve the request of *connection*, now or when its user may ask again."""
        wait_s = self._pace.take(connection.peer.uid)
        if wait_s:
            self._let_wait(connection, wait_s)
        elif self._knows_groups(connection):
            self._decide(connection)

    def _knows_groups(self, connection: Connection) -> bool:
        """Return whether the peer's groups have been read; if not, have them read."""
        named, who, peer = self._accounts.groups(), connection.who, connection.peer
        if connection.named == named:
            return True
        try:
            is_long = group_count(connection.sock) > FEW_GROUPS
            if not is_long:
                connection.peer = self._door.judge(connection.sock, who, peer.uid, named)
                connection.named = named
                return True
        except IdentityError as error:
            self._refuse_unknown(connection, error)
            return False
        wait_s = self._long_pace.take(peer.uid)
        if wait_s:
            self._let_wait(connection, wait_s)
        else:
            connection.named = named
            judge = partial(self._door.judge, connection.sock, who, peer.uid, named)
            self._start(connection, judge)
        return False

    def _refuse_unknown(self, connection: Connection, error: IdentityError) -> None:
        self._refuse(connection, ErrorReply(Code.REFUSED, str(error)))
        self._close(connection)

    def _decide(self, connection: Connection) -> None:
        try:
            request = self._decode(connection, connection.packet)
            work = self._service.prepare(Asked(request, connection.peer))
        except BadMessage as error:
            self._refuse_and_close(connection, error)
        except RequestError as error:
            self._refuse(connection, error.reply())
        except Exception as error:  # noqa: BLE001 - one client's fault must not end the others
            log_fault(f"serving {connection.peer.who}", error)
            self._close(connection)
        else:
            self._start(connection, work)

    def _let_wait(self, connection: Connection, wait_s: float) -> None:
        connection.before_wait = connection.state
        connection.state = State.PACED
        self._epoll.unregister(connection.sock)
        heappush(self._paced, (time.monotonic() + wait_s, connection.number))

    def _serve_paced(self) -> None:
        """Serve the requests that have waited for long enough."""
        now = time.monotonic()
        while self._paced and self._paced[0][0] <= now:
            _, number = heappop(self._paced)
            connection = self._by_number.get(number)
            if connection is None:
                continue
            connection.state = connection.before_wait
            self._epoll.register(connection.sock, select.EPOLLIN)
            self._serve(connection)

    def _refuse_and_close(self, connection: Connection, error: BadMessage) -> None:
        self._refuse(connection, ErrorReply(error.code, str(error), _PROTOCOL_HINT))
        self._close(connection)

    def _decode(self, connection: Connection, packet: bytes) -> Request:
        if connection.state is State.DELIVERED and untaken_bytes(connection.sock):
            raise BadMessage("the reply to the request before this one was not read", Code.BUSY)
        return decode_request(packet)

    def _start(self, connection: Connection, work: Work | Callable[[], Peer]) -> None:
        connection.state = State.WORKING
        self._epoll.unregister(connection.sock)
        self._workers.submit(Job(connection.peer.uid, connection.number, work))

    def _refuse(self, connection: Connection, reply: ErrorReply) -> None:
        self._log_refusal(connection.peer, reply)
        self._send(connection, Answer(reply))

    def _log_refusal(self, peer: Peer, reply: ErrorReply) -> None:
        at_once, per_second = REFUSALS_LOGGED_AT_ONCE, REFUSALS_LOGGED_PER_SECOND
        if not self._log_buckets.take(peer.uid, at_once, per_second):
            log(INFO, f"{reply.code} for {peer.who} (pid {peer.pid}): {reply.message}")

    # -- replies

    def _deliver(self, done: Done) -> None:
        connection = self._by_number.get(done.connection)
        if connection is None:
            # It had to make room for another client's.
            if isinstance(done.result, Answer):
                done.result.fds.close()
            return
        connection.state = State.LISTENING
        self._epoll.register(connection.sock, select.EPOLLIN)
        try:
            self._answer(connection, done)
        except Exception as error:  # noqa: BLE001 - one client's fault must not end the others
            log_fault(f"answering {connection.peer.who}", error)
            self._close(connection)

    def _answer(self, connection: Connection, done: Done) -> None:
        if isinstance(done.result, Answer):
            self._send(connection, done.result)
        elif isinstance(done.result, Peer):
            connection.peer = done.result
            self._decide(connection)
        elif isinstance(done.error, IdentityError):
            self._refuse_unknown(connection, done.error)
        elif isinstance(done.error, RequestError):
            self._refuse(connection, done.error.reply())
        elif done.error is not None:
            log_fault(f"working for {connection.peer.who}", done.error)
            self._refuse(connection, ErrorReply(Code.FAILED, "internal error in the helper", _HINT))

    def _send(self, connection: Connection, answer: Answer) -> None:
        """Send *answer*, and close our copies of its fds in any case."""
        connection.deadline = time.monotonic() + NEXT_REQUEST_S
        with answer.fds:
            try:
                channel.send(connection.sock, encode_reply(answer.reply), answer.fds.borrow())
            except OSError as error:
                self._not_sent(connection, error)
                return
        if len(answer.fds):
            connection.state = State.DELIVERED

    def _not_sent(self, connection: Connection, error: OSError) -> None:
        if error.errno == errno.ETOOMANYREFS:
            log(WARNING, "too many file descriptors are on their way to clients, ignoring")
            busy = ErrorReply(
                Code.BUSY,
                "too many grants wait for their clients",
                "try again later",
            )
            self._send(connection, Answer(busy))
            return
        # The client has gone, or does not read its replies. Our copies of its fds are closed.
        self._close(connection)

    # -- the end of a connection, and of the helper

    def _close(self, connection: Connection) -> None:
        fd = connection.sock.fileno()
        if fd < 0:
            return
        del self._connections[fd]
        del self._by_number[connection.number]
        self._door.left(connection.peer)
        connection.sock.close()
        self._idle_since = time.monotonic()

    def _make_room(self, uid: int) -> None:
        """End a connection of *uid*, if possible one for which no worker works."""
        own = (c for c in self._connections.values() if c.peer.uid == uid)
        one = min(own, key=lambda c: (c.state is State.WORKING, c.deadline))
        with suppress(OSError):
            channel.send(one.sock, TOO_MANY_OF_ALL)
        self._close(one)

    def _close_late(self) -> None:
        now = time.monotonic()
        if now < self._look_again:
            return
        self._look_again = now + LOOK_S
        for connection in list(self._connections.values()):
            if connection.is_quiet and now >= connection.deadline:
                self._close(connection)
        waits_until = self._door.next_deadline()
        if waits_until is not None and now >= waits_until:
            self._door.admit_named()

    def _idle_for_long(self) -> bool:
        if self._service.is_needed():
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
        if self._paced:
            ends.append(self._paced[0][0])
        if self._accept_again:
            ends.append(self._accept_again)
        if self._notifier.watchdog_s:
            ends.append(self._pet_again)
        return max(0.0, min(ends, default=now + NEXT_REQUEST_S) - now)

    def _pet_watchdog(self) -> None:
        now = time.monotonic()
        if not self._notifier.watchdog_s or now < self._pet_again:
            return
        self._pet_again = now + self._notifier.watchdog_s / 2
        if self._workers.oldest_s() < JOB_STUCK_S:
            self._notifier.tell("WATCHDOG=1")


_PROTOCOL_HINT: Final = "the protocol is described in docs/protocol.md"
_HINT: Final = "see the journal of the helper's unit"
