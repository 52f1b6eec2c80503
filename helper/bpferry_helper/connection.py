# SPDX-License-Identifier: LGPL-2.1-or-later
"""One client's connection, its state and its deadline.

A connection is in one of four states:

    LISTENING   we wait for a request. Ends when a packet arrives, or at the deadline (closed).
    PACED       its request waits until its user may ask again (``rate``). The connection is not
                read meanwhile.
    WORKING     a worker has its request. The connection is not read meanwhile. If that takes longer
                than WORK_S, we answer ``busy`` and close the connection; the result is dropped,
                and what no worker has begun is not begun.
    DELIVERED   as LISTENING, but a reply with fds is on its way. If another request arrives before
                the client has taken that reply, we answer ``busy`` and close the connection.
"""

import array
import fcntl
import socket
import time
from enum import Enum, auto
from termios import TIOCOUTQ
from typing import TYPE_CHECKING, Final

from bpferry_helper.identity import Credentials, Peer

if TYPE_CHECKING:
    from bpferry_wire.errors import BadMessage

FIRST_REQUEST_S: Final = 10.0
"""From connecting to the first request. 5 s was too short on slow boots (D-Bus, 2014)."""

NEXT_REQUEST_S: Final = 30.0
"""From a reply to the next request."""


WORK_S: Final = 12.0
"""From a request to the answer; then the client is told that it takes too long. It waits 15 s."""


class State(Enum):
    """See the module's docstring."""

    LISTENING = auto()
    PACED = auto()
    WORKING = auto()
    DELIVERED = auto()


class Connection:
    """One client. Owns its socket."""

    __slots__ = (
        "before",
        "deadline",
        "fault",
        "named",
        "number",
        "packet",
        "peer",
        "sock",
        "state",
        "who",
    )

    def __init__(self, sock: socket.socket, who: Credentials, peer: Peer, number: int) -> None:
        self.sock = sock
        self.who = who
        self.named: frozenset[int] | None = None
        """The groups that policy named when the peer's were read; None before that."""
        self.peer = peer
        self.number = number
        self.state = State.LISTENING
        self.before = self.state
        """The state to return to from PACED or WORKING."""
        self.packet = b""
        """The request that is served or waits, or the last one; empty before the first."""
        self.fault: BadMessage | None = None
        """What is wrong with the packet that came; the connection ends with it."""
        self.deadline = time.monotonic() + FIRST_REQUEST_S

    @property
    def is_quiet(self) -> bool:
        """Whether no request of it is in progress."""
        return self.state in (State.LISTENING, State.DELIVERED)


def untaken_bytes(sock: socket.socket) -> int:
    """Return how much of our replies the client has not read yet (SIOCOUTQ of unix(7))."""
    count = array.array("i", [0])
    fcntl.ioctl(sock, TIOCOUTQ, count)
    return count[0]
