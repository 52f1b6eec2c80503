# SPDX-License-Identifier: LGPL-2.1-or-later
"""Replies and refusals on their way to a client.

No send waits: a client that does not read its replies is closed. Our copies of the fds in a reply
are closed whether or not it was sent, so nothing that a client does keeps them open here.
"""

import errno
import time
from collections.abc import Callable
from typing import Final

from bpferry_helper.connected import Connected
from bpferry_helper.connection import NEXT_REQUEST_S, Connection, State
from bpferry_helper.exchange import Answer
from bpferry_helper.identity import IdentityError, Peer
from bpferry_helper.log import INFO, WARNING, log
from bpferry_helper.rate import TokenBuckets
from bpferry_wire import channel
from bpferry_wire.errors import BadMessage, Code
from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import ErrorReply
from bpferry_wire.packets import encode_reply

REFUSALS_LOGGED_AT_ONCE: Final = 10
REFUSALS_LOGGED_PER_SECOND: Final = 1
"""Per user, so that nobody can push another user's lines out of the journal."""

_PROTOCOL_HINT: Final = "the protocol is described in docs/protocol.md"


class Replies:
    """Sends answers, and logs the refusals among them."""

    def __init__(self, connected: Connected, discard: Callable[[OwnedFds], None]) -> None:
        """Send to clients among *connected*, and close those that cannot go on.

        *discard* closes our copies of fds, without waiting for that.
        """
        self._connected = connected
        self._discard = discard
        self._log_buckets = TokenBuckets()

    def send(self, connection: Connection, answer: Answer) -> None:
        """Send *answer*, and close our copies of its fds in any case."""
        connection.deadline = time.monotonic() + NEXT_REQUEST_S
        try:
            channel.send(connection.sock, encode_reply(answer.reply), answer.fds.borrow())
        except OSError as error:
            self._not_sent(connection, error)
            return
        finally:
            if answer.line:
                log(INFO, answer.line)
            self._discard(answer.fds)
        if len(answer.fds):
            connection.state = State.DELIVERED

    def refuse(self, connection: Connection, reply: ErrorReply) -> None:
        """Log and send the refusal *reply*; the client may ask again."""
        self._log_refusal(connection.peer, reply)
        self.send(connection, Answer(reply))

    def refuse_malformed(self, connection: Connection, error: BadMessage) -> None:
        """Refuse a packet that breaks the protocol, and close *connection*."""
        # It may be the second packet; the name was in the first.
        connection.peer = connection.peer._replace(vm="")
        self.refuse(connection, ErrorReply(error.code, str(error), _PROTOCOL_HINT))
        self._connected.close(connection)

    def refuse_unknown(self, connection: Connection, error: IdentityError) -> None:
        """Refuse a peer whose groups cannot be read, and close *connection*."""
        self.refuse(connection, ErrorReply(Code.REFUSED, str(error)))
        self._connected.close(connection)

    def _log_refusal(self, peer: Peer, reply: ErrorReply) -> None:
        at_once, per_second = REFUSALS_LOGGED_AT_ONCE, REFUSALS_LOGGED_PER_SECOND
        if not self._log_buckets.take(peer.uid, at_once, per_second):
            log(INFO, f"{reply.code} for {peer.who_asks}: {reply.message}")

    def _not_sent(self, connection: Connection, error: OSError) -> None:
        if error.errno == errno.ETOOMANYREFS:
            log(WARNING, "too many file descriptors are on their way to clients, ignoring")
            busy = ErrorReply(
                Code.BUSY, "too many grants wait for their clients", "try again later"
            )
            self.send(connection, Answer(busy))
            return
        # The client has gone, or does not read its replies. Our copies of its fds are closed.
        self._connected.close(connection)
