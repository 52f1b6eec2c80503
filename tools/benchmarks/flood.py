# SPDX-License-Identifier: LGPL-2.1-or-later
"""Flood one helper: a process that does one thing to its socket, as often as it can.

Each kind of flood holds up to sixteen connections per uid, as many as the helper allows, and takes
each of its uids in turn. It continues until its standard input ends.
"""

import os
import select
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from bpferry_wire.messages import Can, Hello, Load
from bpferry_wire.packets import encode_request

HELD: Final = 16
"""Connections of one uid (MAX_PER_UID of the helper)."""

GROUPS: Final = 65_535
"""One less than a process may have (NGROUPS_MAX), as the socket's group is one too."""

HELLO: Final = encode_request(Hello())
CAN: Final = encode_request(Can(Load("rss", bytes(32))))

Sockets = list[socket.socket]


class Flooder:
    """Floods the socket at *path* as the *uids*, members of the group *gid*."""

    def __init__(self, path: str, gid: int, uids: Sequence[int]) -> None:
        self._path = path
        self._gid = gid
        self._uids = uids
        self._held: dict[int, Sockets] = {uid: [] for uid in uids}
        os.setgroups([gid])

    def connects(self) -> None:
        """Connect and hang up."""
        for uid in self._uids:
            self._connect(uid, drop=True)

    def hellos(self) -> None:
        """Send the cheapest request on every connection."""
        self._ask(HELLO)

    def cans(self) -> None:
        """Ask whether a load would be granted, for an object that nobody has."""
        self._ask(CAN)

    def groups(self) -> None:
        """Connect with as many groups as possible, and hang up."""
        os.setgroups([self._gid, *range(10_000_000, 10_000_000 + GROUPS)])
        self.connects()

    def half(self) -> None:
        """Hold silent connections, and send half a request on one connection per uid."""
        for uid in self._uids:
            self._fill(uid)
            self._send(uid, self._held[uid][:1], HELLO[: len(HELLO) // 2])

    def unread(self) -> None:
        """Send requests and never read a reply."""
        for uid in self._uids:
            self._fill(uid)
            self._send(uid, list(self._held[uid]), HELLO)

    def _ask(self, packet: bytes) -> None:
        for uid in self._uids:
            self._fill(uid)
            for sock in self._held[uid]:
                with suppress(OSError):
                    sock.recv(65_536)
            self._send(uid, list(self._held[uid]), packet)

    def _fill(self, uid: int) -> None:
        while len(self._held[uid]) < HELD:
            sock = self._connect(uid)
            if sock is None:
                return
            self._held[uid].append(sock)

    def _send(self, uid: int, socks: Sockets, packet: bytes) -> None:
        for sock in socks:
            try:
                sock.send(packet)
            except BlockingIOError:
                continue
            except OSError:
                self._held[uid].remove(sock)
                sock.close()

    def _connect(self, uid: int, *, drop: bool = False) -> socket.socket | None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.setblocking(False)  # noqa: FBT003 - the function's own signature
        os.seteuid(uid)
        try:
            sock.connect(self._path)
        except OSError:
            drop = True
        finally:
            os.seteuid(0)
        if drop:
            sock.close()
            return None
        return sock


KINDS: Final[dict[str, Callable[[Flooder], None]]] = {
    "connects": Flooder.connects,
    "hellos": Flooder.hellos,
    "can": Flooder.cans,
    "group lists": Flooder.groups,
    "half requests": Flooder.half,
    "unread replies": Flooder.unread,
}
"""The kinds of flood, each with one round of it."""


def main(arguments: Sequence[str]) -> None:
    """Flood according to *arguments*: kind, path, gid and uids."""
    kind, path, gid, *uids = arguments
    flooder = Flooder(path, int(gid), [int(uid) for uid in uids])
    flood = KINDS[kind]
    sys.stdout.write("flooding\n")
    sys.stdout.flush()
    while not select.select([sys.stdin], [], [], 0)[0]:
        flood(flooder)


if __name__ == "__main__":
    main(sys.argv[1:])
