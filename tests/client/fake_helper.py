# SPDX-License-Identifier: LGPL-2.1-or-later
"""A helper of the tests' own, at a real socket; most of them are bad ones."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from bpferry_wire import channel, limits
from bpferry_wire.errors import Code, WireError
from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import Can, CanReply, ErrorReply, LoadReply, Reply, Request, TapReply
from bpferry_wire.packets import decode_request, encode_reply
from tests.client import bpf

Behaviour = Callable[[socket.socket, bytes], None]
"""Answers one request on a connection."""


@contextlib.contextmanager
def helper(path: Path, *behaviours: Behaviour) -> Iterator[str]:
    """Serve at *path*: the first connection as the first of *behaviours* does, and so on.

    The last one serves all connections that follow.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=_serve, args=(listener, behaviours))
        thread.start()
        try:
            yield str(path)
        finally:
            # accept() in another thread ends with this, and not with close().
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(listener: socket.socket, behaviours: tuple[Behaviour, ...]) -> None:
    number = 0
    while True:
        try:
            conn, _ = listener.accept()
        except OSError:
            return
        with conn, contextlib.suppress(WireError, OSError):
            while True:
                request = channel.receive_bare(conn)
                behaviours[min(number, len(behaviours) - 1)](conn, request)
        number += 1


def replies(reply: Reply) -> Behaviour:
    """Return a behaviour that answers *reply*."""
    return sends(encode_reply(reply))


def sends(data: bytes, make: Callable[[], OwnedFds] = OwnedFds) -> Behaviour:
    """Return a behaviour that answers *data* with the fds that *make* makes."""

    def answer(conn: socket.socket, _request: bytes) -> None:
        with make() as fds:
            channel.send(conn, data, fds.borrow())

    return answer


def grants(make: Callable[[], OwnedFds] = bpf.make_set) -> Behaviour:
    """Return a behaviour that hands over what *make* makes, and calls it a set of "rss"."""
    return sends(encode_reply(LoadReply(bpf.describe_rss())), make)


def gives_tap(make: Callable[[], OwnedFds], reply: TapReply) -> Behaviour:
    """Return a behaviour that hands over what *make* makes, and says *reply* of it."""
    return sends(encode_reply(reply), make)


def refuses(code: Code, message: str = "why", hint: str = "what to do") -> Behaviour:
    """Return a behaviour that says no."""
    return sends(encode_reply(ErrorReply(code, message, hint)))


def permits(behaviour: Behaviour) -> Behaviour:
    """Return *behaviour* for a helper that says yes to whether it would do something."""
    yes = replies(CanReply(allowed=True, because="/etc/bpferry/policy.toml:1"))

    def answer(conn: socket.socket, request: bytes) -> None:
        (yes if isinstance(decode_request(request), Can) else behaviour)(conn, request)

    return answer


def keeps(requests: list[Request], behaviour: Behaviour) -> Behaviour:
    """Return *behaviour* that puts each request into *requests* before."""

    def answer(conn: socket.socket, request: bytes) -> None:
        requests.append(decode_request(request))
        behaviour(conn, request)

    return answer


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """Return a behaviour that is the next of *behaviours* at each question."""
    left = list(behaviours)

    def answer(conn: socket.socket, request: bytes) -> None:
        left.pop(0)(conn, request)

    return answer


def hangs_up(conn: socket.socket, _request: bytes) -> None:
    """Die over the request."""
    conn.close()


def keeps_silent(_conn: socket.socket, _request: bytes) -> None:
    """Answer nothing."""


def too_long(conn: socket.socket, _request: bytes) -> None:
    """Answer with more than a reply may have."""
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * limits.MAX_REPLY_BYTES)
    channel.send(conn, bytes(limits.MAX_REPLY_BYTES + 1))
