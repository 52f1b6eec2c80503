# SPDX-License-Identifier: LGPL-2.1-or-later
"""One connection: calls come in as JSON texts that end with NUL, and each gets one reply, in order.

The connection is the socket that a caller has started us with, as varlinkctl and sd-varlink do for
an address that begins with ``exec:``: fd 3, by the protocol of sd_listen_fds(3). systemd's
Accept=yes and inetd give it as the standard input.
"""

import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

from bpferry.errors import BadInput
from bpferry.varlink.calls import Answer, CallError, Helpers, Parameters, carry_out
from bpferry_wire.fds import BorrowedFd

LISTEN_FD: Final = 3
"""SD_LISTEN_FDS_START of sd-daemon.h."""

MAX_MESSAGE_BYTES: Final = 65_536
"""Sixteen times what the largest request of the wire takes. sd-varlink ends at 64 MiB."""

CHUNK_BYTES: Final = 65_536

HINT: Final = "it is started by a caller: varlinkctl introspect exec:/usr/local/bin/bpferry-varlink"


class Nonsense(Exception):  # noqa: N818 - what came, in one word
    """What came is not a call of varlink; there is nothing to answer it with."""


def serve() -> int:
    """Answer what comes over the socket that we were started with, until the caller hangs up.

    Returns 0; 1 if what came was not varlink.

    Raises:
        BadInput: there is no such socket.
    """
    with inherited_connection() as connection, ExitStack() as stack:
        try:
            answer_all(connection, Helpers(stack))
        except Nonsense:
            return 1
        except (BrokenPipeError, ConnectionResetError):
            pass  # The caller has left.
    return 0


def inherited_connection() -> socket.socket:
    """Return the stream socket that we were started with.

    Raises:
        BadInput: there is none.
    """
    given = os.environ.get("LISTEN_FDS") == "1" and os.environ.get("LISTEN_PID") == str(os.getpid())
    fd = LISTEN_FD if given else 0
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        raise BadInput("there is no varlink connection on standard input", HINT)
    return socket.socket(fileno=fd)


def answer_all(connection: socket.socket, helpers: Helpers) -> None:
    """Answer each call that comes over *connection*, until it ends.

    Raises:
        Nonsense: what came was not a call.
        OSError: a reply could not be sent.
    """
    for message in messages(connection):
        method, parameters, oneway = parse_call(message)
        with ExitStack() as stack:
            try:
                answer = carry_out(method, parameters, helpers, stack)
                reply: Parameters = {"parameters": answer.parameters}
            except CallError as error:
                answer = Answer(error.parameters)
                reply = {"error": error.name, "parameters": error.parameters}
            if not oneway:
                send(connection, reply, answer.fds)


def messages(connection: socket.socket) -> Iterator[bytes]:
    """Yield each text that comes over *connection*, without its NUL."""
    pending = b""
    # Fds that a caller sends are closed by the kernel, since recv() has no room for them.
    while chunk := connection.recv(CHUNK_BYTES):
        *whole, pending = (pending + chunk).split(b"\0")
        yield from whole
        if len(pending) > MAX_MESSAGE_BYTES:
            raise Nonsense
    if pending:
        raise Nonsense


def parse_call(message: bytes) -> tuple[str, Parameters, bool]:
    """Return the method, the parameters, and whether no reply is wanted.

    Raises:
        Nonsense: *message* is not a call.
    """
    try:
        call = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise Nonsense from error
    if not isinstance(call, dict) or call.get("upgrade"):
        raise Nonsense
    method, parameters = call.get("method"), call.get("parameters")
    parameters = {} if parameters is None else parameters
    if not isinstance(method, str) or not isinstance(parameters, dict):
        raise Nonsense
    return method, parameters, bool(call.get("oneway"))


def send(connection: socket.socket, reply: Parameters, fds: tuple[BorrowedFd, ...]) -> None:
    """Send *reply*, and *fds* with its first byte."""
    data = json.dumps(reply, separators=(",", ":")).encode() + b"\0"
    sent = socket.send_fds(connection, [data], [*fds]) if fds else 0
    connection.sendall(data[sent:])
