# SPDX-License-Identifier: LGPL-2.1-or-later
"""One request, from the packet to the answer.

The order is what makes it safe for anybody to ask: the user's rate first (``pacing``), because it
costs nothing; then the peer's groups; only then is the packet decoded. What is slow runs in a
worker (``work``). A bug that shows while one request is served is logged, and affects the client
that sent it, not the others.
"""

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Final

from bpferry_helper.connected import Connected
from bpferry_helper.connection import WORK_S, Connection, State, untaken_bytes
from bpferry_helper.door import Door
from bpferry_helper.errors import RequestError
from bpferry_helper.exchange import Accounts, Answer, Asked, Paced, Service, Work
from bpferry_helper.identity import IdentityError, Peer
from bpferry_helper.pacing import Pacing
from bpferry_helper.replies import Replies
from bpferry_helper.work import NOBODYS, Done, Job, Workers, log_fault
from bpferry_wire import channel
from bpferry_wire.errors import BadMessage, Code, PeerClosed
from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import ErrorReply, Request
from bpferry_wire.packets import decode_request
from bpferry_wire.vm_names import vm_of

_HINT: Final = "see the journal of the helper's unit"


class Requests:
    """Serves the requests of all clients. The loop calls everything but what workers close."""

    def __init__(
        self, service: Service, accounts: Accounts, door: Door, connected: Connected
    ) -> None:
        """Let *service* decide about the requests of those *connected*."""
        self._service = service
        self._accounts = accounts
        self._door = door
        self._connected = connected
        self._replies = Replies(connected, self._discard)
        self.pacing = Pacing(connected)
        self.workers = Workers(service.work_ahead)
        self._unclosed: deque[OwnedFds] = deque()
        self._closing = Lock()

    def read(self, connection: Connection) -> None:
        """Read the request of *connection*, if there is one, and serve it."""
        try:
            connection.packet = channel.receive_bare(connection.sock)
        except BlockingIOError:
            return
        except (PeerClosed, ConnectionError):
            if connection.packet:
                self._connected.close(connection)
                return
        except OSError as error:
            # Such as no memory for this packet. The client sees that it is closed, and asks again.
            log_fault(f"reading from {connection.peer.who}", error)
            self._connected.close(connection)
            return
        except BadMessage as error:
            connection.fault = error
        self._serve(connection)

    def serve_paced(self) -> None:
        """Serve the requests that have waited for long enough."""
        for connection in self.pacing.may_ask_now():
            self._serve_now(connection)
        for connection in self.pacing.may_read_groups_now():
            self._read_groups(connection)

    def deliver(self) -> None:
        """Give what the workers have done to the clients that asked for it."""
        for done in self.workers.results():
            self._deliver(done)

    def _serve(self, connection: Connection) -> None:
        """Serve the request of *connection*, now or when its user may ask again.

        A packet that breaks the protocol counts as one, and so does to hang up without any.
        """
        if self.pacing.may_ask(connection):
            self._serve_now(connection)

    def _serve_now(self, connection: Connection) -> None:
        if connection.fault is not None:
            self._replies.refuse_malformed(connection, connection.fault)
        elif not connection.packet:
            self._connected.close(connection)
        elif self._knows_groups(connection):
            self._decide(connection)

    def _knows_groups(self, connection: Connection) -> bool:
        """Return whether the peer's groups have been read; if not, have them read."""
        named, who, peer = self._accounts.groups(), connection.who, connection.peer
        if connection.named == named:
            return True
        try:
            judged = self._door.judge_quickly(connection.sock, who, peer.uid, named)
        except IdentityError as error:
            self._replies.refuse_unknown(connection, error)
            return False
        if judged is not None:
            connection.peer, connection.named = judged, named
            return True
        if self.pacing.may_read_groups(connection):
            self._read_groups(connection)
        return False

    def _read_groups(self, connection: Connection) -> None:
        """Let a worker read the peer's groups; then the request is decided."""
        named = connection.named = self._accounts.groups()
        uid = connection.peer.uid
        judge = partial(self._door.judge, connection.sock, connection.who, uid, named)
        self._start(connection, judge)

    def _decide(self, connection: Connection) -> None:
        try:
            request = self._decode(connection, connection.packet)
            connection.peer = connection.peer._replace(vm=vm_of(request))
            work = self._service.prepare(Asked(request, connection.peer))
            is_paced = isinstance(work, Paced)
            if isinstance(work, Paced):
                work = self._try_quickly(connection, work)
        except BadMessage as error:
            self._replies.refuse_malformed(connection, error)
        except RequestError as error:
            self._replies.refuse(connection, error.reply())
        except Exception as error:  # noqa: BLE001 - one client's fault must not end the others
            log_fault(f"serving {connection.peer.who}", error)
            self._connected.close(connection)
        else:
            if isinstance(work, Answer):
                self._replies.send(connection, work)
            else:
                run, pace = (work.run, work.pace) if isinstance(work, Paced) else (work, None)
                self._start(connection, partial(self._after_closing, run), pace)
            if is_paced:
                self.workers.work_ahead_soon()

    def _decode(self, connection: Connection, packet: bytes) -> Request:
        if connection.state is State.DELIVERED and untaken_bytes(connection.sock):
            raise BadMessage("the reply to the request before this one was not read", Code.BUSY)
        connection.state = State.LISTENING
        return decode_request(packet)

    def _try_quickly(self, connection: Connection, work: Paced) -> Answer | Work | Paced:
        """Return the answer if it is ready and nobody waits for a turn; else the work.

        The pace counts in any case, and once.
        """
        if work.quick is None or not self.workers.pass_by(connection.peer.uid, work.pace):
            return work
        return work.quick() or work.run

    def _start(
        self,
        connection: Connection,
        run: Work | Callable[[], Peer],
        pace: tuple[int, int] | None = None,
    ) -> None:
        self._connected.stop_reading(connection, State.WORKING)
        connection.deadline = time.monotonic() + WORK_S
        uid, until = connection.peer.uid, connection.deadline
        self.workers.submit(Job(uid, connection.number, run, pace, until))

    def _deliver(self, done: Done) -> None:
        connection = self._connected.with_number(done.connection)
        if connection is None or not self._connected.read_again(connection):
            # It had to make room for another client's, waited for too long, or cannot be watched.
            if isinstance(done.result, Answer):
                self._discard(done.result.fds)
            return
        try:
            self._answer(connection, done)
        except Exception as error:  # noqa: BLE001 - one client's fault must not end the others
            log_fault(f"answering {connection.peer.who}", error)
            self._connected.close(connection)

    def _discard(self, fds: OwnedFds) -> None:
        """Close *fds*, which nobody got, or somebody who may have closed theirs by now."""
        if not self._service.closing_waits:
            fds.close()
        elif len(fds):
            self._unclosed.append(fds)
            self.workers.submit(Job(NOBODYS, 0, self._close_unclosed))

    def _close_unclosed(self) -> None:
        # By a worker: the lock is for the other one, which waits until all is closed.
        with self._closing:
            while self._unclosed:
                self._unclosed.popleft().close()

    def _after_closing(self, run: Work) -> Answer:
        """Run what was asked for. A tap that its client has closed must not be in its way."""
        self._close_unclosed()
        return run()

    def _answer(self, connection: Connection, done: Done) -> None:
        if isinstance(done.result, Answer):
            self._replies.send(connection, done.result)
        elif isinstance(done.result, Peer):
            connection.peer = done.result
            self._decide(connection)
        elif isinstance(done.error, IdentityError):
            self._replies.refuse_unknown(connection, done.error)
        elif isinstance(done.error, RequestError):
            self._replies.refuse(connection, done.error.reply())
        elif done.error is not None:
            log_fault(f"working for {connection.peer.who}", done.error)
            failed = ErrorReply(Code.FAILED, "internal error in the helper", _HINT)
            self._replies.refuse(connection, failed)
