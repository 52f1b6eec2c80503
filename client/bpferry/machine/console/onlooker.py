# SPDX-License-Identifier: LGPL-2.1-or-later
"""One of those who look at a console."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

MAX_QUEUED: Final = 256 * 1024
"""What waits for a slow reader, in addition to the socket's own buffer. It holds the history."""

CHUNK_BYTES: Final = 4096

LOST: Final = (
    b"\r\n[bpferry: %d bytes of the console are missing here, since they were not read in time]\r\n"
)


class Onlooker:
    """Shows one reader what the guest writes, and passes on what is typed there.

    A reader that is slower than the guest loses bytes as soon as its queue is full, and is told how
    many, once it has read what was queued. Nobody waits for it.
    """

    def __init__(
        self,
        sock: socket.socket,
        typed: Callable[[bytes], None],
        left: Callable[["Onlooker"], None],
    ) -> None:
        """Take over *sock*; call *typed* with what is typed there, and *left* when it is closed."""
        self._sock = sock
        self._typed = typed
        self._left = left
        self._queue = bytearray()
        self._lost = 0
        self._loop = asyncio.get_running_loop()
        self._is_read = False
        self._emptied: asyncio.Event | None = None
        sock.settimeout(0)

    def show(self, data: bytes) -> None:
        """Show *data*, now or when there is room; if the queue is full, it is lost."""
        if self._lost or len(self._queue) + len(data) > MAX_QUEUED:
            self._lost += len(data)
            return
        was_empty = not self._queue
        self._queue += data
        if was_empty:
            self._send()
            if self._queue and not self._is_closed:
                self._loop.add_writer(self._sock, self._send)

    def listen(self, *, listens: bool) -> None:
        """Take what is typed from now on, or let it wait in the socket."""
        if self._is_closed or listens is self._is_read:
            return
        self._is_read = listens
        if listens:
            self._loop.add_reader(self._sock, self._receive)
        else:
            self._loop.remove_reader(self._sock)

    async def drain(self) -> None:
        """Wait until everything that is queued has been read, or the reader has left."""
        if self._queue:
            self._emptied = asyncio.Event()
            await self._emptied.wait()

    def close(self) -> None:
        """Close the connection; what is queued is lost. Doing so twice does nothing."""
        if not self._is_closed:
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()
            self._forget_queue()

    @property
    def _is_closed(self) -> bool:
        return self._sock.fileno() < 0

    def _send(self) -> None:
        try:
            sent = self._sock.send(self._queue)
        except BlockingIOError:
            return
        except OSError:
            self._leave()
            return
        del self._queue[:sent]
        if not self._queue and self._lost:
            self._queue += LOST % self._lost
            self._lost = 0
        elif not self._queue:
            self._loop.remove_writer(self._sock)
            self._forget_queue()

    def _forget_queue(self) -> None:
        self._queue.clear()
        if self._emptied is not None:
            self._emptied.set()

    def _receive(self) -> None:
        try:
            data = self._sock.recv(CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._typed(data)
        else:
            self._leave()

    def _leave(self) -> None:
        self.close()
        self._left(self)
