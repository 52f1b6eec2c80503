# SPDX-License-Identifier: LGPL-2.1-or-later
"""Admits clients: as which account, with which groups, and how many at a time.

A client that is turned away can come back at once, and often. So the cheap checks are first (how
many connections the account has), and the usual answers are prepared packets. The slow part, the
peer's groups, is read with the first request (``requests``).
"""

import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from bpferry_helper.connection import FIRST_REQUEST_S
from bpferry_helper.disposal import Disposal
from bpferry_helper.exchange import Accounts
from bpferry_helper.identity import (
    Credentials,
    GroupReader,
    IdentityError,
    Peer,
    identify,
    overflow_ids,
)
from bpferry_helper.log import LINES_AT_ONCE, LINES_PER_SECOND, WARNING, log
from bpferry_helper.rate import ALL, TokenBuckets
from bpferry_wire.errors import Code
from bpferry_wire.messages import ErrorReply
from bpferry_wire.packets import encode_reply

MAX_CONNECTIONS: Final = 1024
"""Of all users. The unit's LimitNOFILE= is eight times that."""

MAX_PER_UID: Final = 16
"""Connections of one account: a VM with sixteen cards that asks for all of them at once."""

MAX_UNNAMED: Final = 256
"""Clients that wait until their uid has been looked up. Known accounts need not wait."""

TOO_MANY_OF_ONE: Final = encode_reply(
    ErrorReply(
        Code.BUSY,
        f"you have {MAX_PER_UID} connections open, as many as allowed",
        "close some, or try again later",
    )
)
TOO_MANY_OF_ALL: Final = encode_reply(
    ErrorReply(
        Code.BUSY,
        f"all users together have {MAX_CONNECTIONS} connections open, as many as allowed",
        "try again later",
    )
)
NOT_NAMED_YET: Final = encode_reply(
    ErrorReply(
        Code.BUSY,
        "your user's name is still being looked up, and so are those of others",
        "try again later; the administrator can see with 'getent passwd' whether names are slow",
    )
)


class _Waiting(NamedTuple):
    sock: socket.socket
    uid: int
    """Of the process; its account may not be known yet."""
    until: float


class Door:
    """Admits clients, and counts their connections. Everything here is called by the loop."""

    def __init__(
        self,
        accounts: Accounts,
        welcome: Callable[[socket.socket, Credentials, Peer], None],
        make_room: Callable[[int], None],
        disposal: Disposal,
    ) -> None:
        """Admit clients that have an account.

        Args:
            accounts: knows the account of a uid.
            welcome: gets each admitted client, and owns its socket from then on.
            make_room: ends a connection of the given uid, which has some.
            disposal: closes the sockets of those who are turned away.
        """
        self._accounts = accounts
        self._welcome = welcome
        self._make_room = make_room
        self._turn_away = disposal.turn_away
        self._unmapped = overflow_ids()
        self._groups = GroupReader(self._unmapped)
        self._per_uid: Counter[int] = Counter()
        self._inside = 0
        self._waiting: list[_Waiting] = []
        """Clients whose uid is being looked up."""
        self._log_bucket = TokenBuckets()

    @property
    def is_quiet(self) -> bool:
        """Whether no client is connected or waiting."""
        return not self._inside and not self._waiting

    def admit(self, sock: socket.socket) -> None:
        """Admit the client of *sock*, let it wait, or turn it away."""
        self._admit(sock, time.monotonic() + FIRST_REQUEST_S)

    def _admit(self, sock: socket.socket, until: float) -> None:
        """Do so; *until* is how long it may wait."""
        try:
            who = identify(sock, self._unmapped)
            uid = self._accounts.whose(who.uid)
            if uid is None:
                self._let_wait(_Waiting(sock, who.uid, until))
                return
            full = self._is_full(uid)
            if full:
                self._turn_away(sock, full)
                return
        except IdentityError as error:
            self._refuse(sock, error)
            return
        self._per_uid[uid] += 1
        self._inside += 1
        self._welcome(sock, who, Peer(uid, frozenset(), who.pid, name=self._accounts.name(uid)))

    def judge(self, sock: socket.socket, who: Credentials, uid: int, named: frozenset[int]) -> Peer:
        """Return the peer at the other end of *sock* with those of its groups that are *named*.

        This is slow with more than FEW_GROUPS groups; then a worker should do it.

        Raises:
            IdentityError: they cannot be read.
        """
        peer = self._groups.peer(sock, who, uid, named)
        return peer._replace(name=self._accounts.name(uid))

    def judge_quickly(
        self, sock: socket.socket, who: Credentials, uid: int, named: frozenset[int]
    ) -> Peer | None:
        """Return the same, or None if it would be slow.

        Raises:
            IdentityError: they cannot be read.
        """
        peer = self._groups.peer_with_few(sock, who, uid, named)
        return peer and peer._replace(name=self._accounts.name(uid))

    def left(self, peer: Peer) -> None:
        """Note that a connection of *peer* was closed."""
        self._inside -= 1
        self._per_uid[peer.uid] -= 1
        if not self._per_uid[peer.uid]:
            del self._per_uid[peer.uid]

    def admit_named(self) -> None:
        """Check the waiting clients again: some of their uids have been looked up."""
        self._accounts.take_wake_up()
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if time.monotonic() < one.until:
                self._admit(one.sock, one.until)
            else:
                self._turn_away(one.sock, NOT_NAMED_YET)

    def next_deadline(self) -> float | None:
        """Return when the first waiting client has waited for too long."""
        return min((one.until for one in self._waiting), default=None)

    def _is_full(self, uid: int) -> bytes | None:
        """Return the answer to another connection of *uid*, or None if there is room for it."""
        if self._per_uid[uid] >= MAX_PER_UID:
            return TOO_MANY_OF_ONE
        if self._inside >= MAX_CONNECTIONS and not self._has_made_room(uid):
            return TOO_MANY_OF_ALL
        return None

    def _has_made_room(self, uid: int) -> bool:
        """End a connection of the account with the most, if that is two more than *uid* has."""
        most = max(self._per_uid, key=self._per_uid.__getitem__)
        if self._per_uid[most] < self._per_uid[uid] + 2:
            return False
        self._make_room(most)
        return True

    def _let_wait(self, one: _Waiting) -> None:
        if len(self._waiting) < MAX_UNNAMED or self._has_made_waiting_room(one.uid):
            self._waiting.append(one)
        else:
            self._turn_away(one.sock, NOT_NAMED_YET)

    def _has_made_waiting_room(self, uid: int) -> bool:
        """Turn away a client of the uid with the most, if those are two more than of *uid*."""
        per_uid = Counter(one.uid for one in self._waiting)
        most, number = per_uid.most_common(1)[0]
        if number < per_uid[uid] + 2:
            return False
        at = next(at for at, one in enumerate(self._waiting) if one.uid == most)
        self._turn_away(self._waiting.pop(at).sock, NOT_NAMED_YET)
        return True

    def _refuse(self, sock: socket.socket, error: IdentityError) -> None:
        if not self._log_bucket.take(ALL, LINES_AT_ONCE, LINES_PER_SECOND):
            log(WARNING, f"refused a client: {error}")
        hint = "ask the administrator to name the uid in /etc/bpferry/policy.toml"
        self._turn_away(sock, encode_reply(ErrorReply(Code.REFUSED, str(error), hint)))
