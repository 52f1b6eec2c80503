# SPDX-License-Identifier: LGPL-2.1-or-later
"""The socket on which a running VM takes commands, served by its supervisor's event loop.

Only processes of the VM's own user may ask (SO_PEERCRED); the folder of the socket keeps others
out already. Every client has a task of its own, so none waits for another. What a client sends is
bounded by ``bpferry_wire.limits``; a client that does not read its reply loses its connection, and
a client that sends what is not a request gets an error and loses it too. Nobody is waited for
longer than that, and an idle connection costs no wake-up.

A client that leaves before it is answered leaves room for another one. What it has asked for goes
on: QEMU does it anyway.
"""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Final, NamedTuple

from bpferry.errors import BpferryError, Refused
from bpferry.machine.control.packets import (
    BAD_REQUEST,
    UNKNOWN_OP,
    decode_request,
    encode_answer,
    encode_error,
)
from bpferry.machine.control_socket import peer_uid
from bpferry_wire import channel, limits
from bpferry_wire.codec import Fields
from bpferry_wire.errors import BadMessage
from bpferry_wire.fds import OwnedFds

MAX_CLIENTS: Final = 64
"""Connections at a time. A command has one, and a script may start many. Further ones wait until
one has left."""

PAUSE_SECONDS: Final = 1.0
"""Before the next connection is taken when there was no fd for one. It would be tried all the time
otherwise, since the connection stays."""


class Answer(NamedTuple):
    """What an operation answers."""

    fields: Mapping[str, object] = {}
    """Those that are None are left out."""
    fds: OwnedFds | None = None
    """Sent with the reply, and closed here after that."""


Operation = Callable[[Fields], Awaitable[Answer]]
"""Answers one request. Takes all fields of it, or raises BadMessage; raises BpferryError if it
cannot do what is asked for."""


class Server:
    """Serves *operations*, by name, at a socket that somebody else closes."""

    def __init__(self, sock: socket.socket, operations: Mapping[str, Operation]) -> None:
        self._sock = sock
        self._operations = dict(operations)
        self._clients: set[asyncio.Task[None]] = set()
        self._answering: set[asyncio.Task[bool]] = set()
        self._loop = asyncio.get_running_loop()
        self._stopped = False

    def start(self) -> None:
        """Take connections from now on."""
        self._loop.add_reader(self._sock, self._accept)

    def add(self, operations: Mapping[str, Operation]) -> None:
        """Serve these too."""
        self._operations |= operations

    def adopt(self, sock: socket.socket, left: Callable[[], None]) -> None:
        """Serve *sock* too, which is connected already; call *left* when its other end leaves."""
        sock.settimeout(0)
        self._begin(sock, self._serve_until(sock, left))

    async def stop(self) -> None:
        """Take no more connections, and close those that are open: the VM has ended."""
        self._stopped = True
        self._loop.remove_reader(self._sock)
        tasks = (*self._clients, *self._answering)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self) -> None:
        try:
            sock, _ = self._sock.accept()
        except OSError as error:
            # The client has left already, or there is no fd for it, and it waits.
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                self._loop.remove_reader(self._sock)
                self._loop.call_later(PAUSE_SECONDS, self._go_on)
            return
        sock.settimeout(0)
        if peer_uid(sock) != os.geteuid():
            with sock, contextlib.suppress(OSError):
                channel.send(sock, encode_error(Refused("this VM belongs to another user")))
            return
        self._begin(sock, self._serve(sock))

    def _begin(self, sock: socket.socket, serving: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(serving)
        self._clients.add(task)
        # Not by the task itself: one that is cancelled before its first step does nothing at all.
        task.add_done_callback(lambda _: sock.close())
        task.add_done_callback(self._left)
        if len(self._clients) >= MAX_CLIENTS:
            self._loop.remove_reader(self._sock)

    def _left(self, task: asyncio.Task[None]) -> None:
        self._clients.discard(task)
        self._go_on()

    def _go_on(self) -> None:
        if not self._stopped and len(self._clients) < MAX_CLIENTS:
            self.start()

    async def _serve_until(self, sock: socket.socket, left: Callable[[], None]) -> None:
        await self._serve(sock)
        left()

    async def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while packet := await self._loop.sock_recv(sock, limits.MAX_REQUEST_BYTES + 1):
                answering = self._loop.create_task(self._answer(sock, packet))
                self._answering.add(answering)
                answering.add_done_callback(self._answered)
                if await self._has_left(sock, answering) or not await answering:
                    return

    async def _has_left(self, sock: socket.socket, answering: asyncio.Task[bool]) -> bool:
        """Wait for the end of *answering*; say whether the client has left before that."""
        left = self._loop.create_future()

        def look() -> None:
            # A client that has sent its next request, which waits, is not looked at again.
            self._loop.remove_reader(sock)
            if _is_closed(sock):
                left.set_result(None)

        self._loop.add_reader(sock, look)
        try:
            await asyncio.wait((answering, left), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._loop.remove_reader(sock)
        return not answering.done()

    def _answered(self, answering: "asyncio.Task[bool]") -> None:
        self._answering.discard(answering)
        if not answering.cancelled():
            # If the client has left, nobody else looks at the error.
            answering.exception()

    async def _answer(self, sock: socket.socket, packet: bytes) -> bool:
        """Answer one request; return False if the connection is to be closed."""
        try:
            op, fields = decode_request(packet)
            answer = await self._do(op, fields)
        except BadMessage as error:
            channel.send(sock, encode_error(_coded(str(error), BAD_REQUEST)))
            return False
        except BpferryError as error:
            channel.send(sock, encode_error(error))
            return True
        with answer.fds or OwnedFds() as fds:
            channel.send(sock, encode_answer(answer.fields), fds.borrow())
        return True

    async def _do(self, op: str, fields: Fields) -> Answer:
        operation = self._operations.get(op)
        if operation is None:
            hint = "bpferry was updated while the VM runs: start the VM again to use this"
            raise _coded(f"this VM's bpferry has no operation '{op}'", UNKNOWN_OP, hint)
        try:
            return await operation(fields)
        except OSError as error:
            # To close the connection would say that the VM has ended.
            raise BpferryError(f"the VM's bpferry cannot do '{op}': {error}") from error
        except (BpferryError, BadMessage):
            raise
        except Exception as error:
            kind = type(error).__name__
            raise BpferryError(
                f"the VM's bpferry failed at '{op}': {kind}: {error}",
                "this is a mistake in bpferry: please report it; the VM keeps running",
            ) from error


def _is_closed(sock: socket.socket) -> bool:
    """Say whether the other end of *sock*, which can be read, is closed."""
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _coded(message: str, code: str, hint: str = "") -> BpferryError:
    error = BpferryError(message, hint)
    error.code = code
    return error
