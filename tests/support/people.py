# SPDX-License-Identifier: LGPL-2.1-or-later
"""Users that ask the helper. They are in the /etc/passwd that the helper sees, and in no other."""

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from bpferry_wire import channel
from bpferry_wire.errors import BadMessage, Code, PeerClosed
from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import ErrorReply, Hello, Reply, Request
from bpferry_wire.packets import decode_reply, encode_request

SOCKET_GID = 1_700_000
"""The group that may connect, as "bpferry" is on a host."""

PATIENCE_S = 20.0


class Person(NamedTuple):
    """A user by numbers."""

    uid: int
    gid: int = SOCKET_GID
    groups: tuple[int, ...] = ()


ALICE = Person(1_700_001)
BOB = Person(1_700_002)
ROOT = Person(0, 0)


NAMED = (*range(1_700_000, 1_700_100), 1, 65533, 65535, 2**31 - 1, 2**31, 2**32 - 2)
"""The uids of tests that have a name on the helper's host. All others are nobody's there."""


class Answered(NamedTuple):
    """A reply and what came with it. The holder of this owns the fds."""

    reply: Reply | ErrorReply
    fds: OwnedFds


@contextmanager
def acting_as(person: Person) -> Iterator[None]:
    """Be *person* for the kernel, in all but the real uid, and be root again afterwards."""
    groups = os.getgroups()
    os.setgroups(person.groups)
    os.setegid(person.gid)
    os.seteuid(person.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def connect(path: Path, person: Person = ALICE) -> socket.socket:
    """Return a connection to *path* that *person* made; the caller closes it."""
    (sock,) = connect_often(path, person, 1)
    return sock


def connect_often(path: Path, person: Person, count: int) -> list[socket.socket]:
    """Return *count* connections to *path* that *person* made; the caller closes them.

    To become somebody with many groups takes longer than to connect, so it is done once.
    """
    with ExitStack() as stack:
        socks = []
        with acting_as(person):
            for _ in range(count):
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                socks.append(stack.enter_context(sock))
                sock.settimeout(PATIENCE_S)
                _connect(sock, path)
        stack.pop_all()
        return socks


def _connect(sock: socket.socket, path: Path) -> None:
    """Connect, and go on trying while the queue is full, as the client does."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            sock.connect(str(path))
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.002)
        else:
            return


def ask(sock: socket.socket, request: Request) -> Answered:
    """Send *request* on *sock* and return what came back.

    A helper that turns us away says why and lets nothing in: the reply is there all the same.
    """
    with suppress(BrokenPipeError):
        channel.send(sock, encode_request(request))
    return take(sock, request)


def take(sock: socket.socket, request: Request) -> Answered:
    """Return the next reply on *sock*, which answers *request*."""
    packet = channel.receive(sock)
    return Answered(decode_reply(packet.data, request), packet.fds)


def ask_once(path: Path, request: Request, person: Person = ALICE) -> Answered:
    """Connect as *person*, ask, and close the connection."""
    with connect(path, person) as sock:
        return ask(sock, request)


def send_rights(sock: socket.socket, data: bytes, fds: Sequence[int], count: int = 1) -> None:
    """Send *data* with *fds* in each of *count* control messages."""
    rights = b"".join(fd.to_bytes(4, "little") for fd in fds)
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] * count)


class Ended(NamedTuple):
    """What came back for raw bytes: the code of the error, and whether the helper hung up."""

    code: Code | None
    """None if there was no reply, or none that is an error."""
    closed: bool


def send_raw(path: Path, packet: bytes, fds: Sequence[int] = (), count: int = 1) -> Ended:
    """Send *packet* with *fds* as Alice and return what came of it."""
    with connect(path) as sock:
        send_rights(sock, packet, fds, count if fds else 0)
        return Ended(code_of_next(sock), is_closed(sock))


def code_of_next(sock: socket.socket) -> Code | None:
    """Return the code of the next reply if it is an error."""
    try:
        packet = channel.receive(sock)
    except PeerClosed:
        return None
    packet.fds.close()
    try:
        reply = decode_reply(packet.data, Hello())
    except BadMessage:
        return None
    return reply.code if isinstance(reply, ErrorReply) else None


def is_closed(sock: socket.socket, patience_s: float = 0.5) -> bool:
    """Say whether the other side closes *sock* within *patience_s*; takes what comes before."""
    sock.settimeout(patience_s)
    try:
        while True:
            channel.receive(sock).fds.close()
    except (PeerClosed, ConnectionError):
        return True
    except TimeoutError:
        return False
    finally:
        sock.settimeout(PATIENCE_S)
