# SPDX-License-Identifier: LGPL-2.1-or-later
"""One console, and all who look at it.

It runs in the supervisor's event loop and wakes up only when the guest writes or somebody types.
What the guest writes is always read at once, so the guest never waits: not for a slow onlooker, and
not if there is none. What is typed is held back while the guest does not read.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Final

from bpferry.errors import BpferryError
from bpferry.machine.console.history import History
from bpferry.machine.console.onlooker import Onlooker
from bpferry.machine.console.preamble import Preamble
from bpferry.machine.preparation import Prepared

CHUNK_BYTES: Final = 65536

MAX_ONLOOKERS: Final = 32

END_SECONDS: Final = 1.0
"""How long the end of the console may take if nobody reads what the guest wrote."""


class Hub:
    """Passes on between *sock*, which somebody else closes, and those who have joined."""

    def __init__(self, sock: socket.socket, own_lines: int = 0) -> None:
        """Read from now on; up to *own_lines* lines at the start are QEMU's own, and left out."""
        self._sock = sock
        self._preamble = Preamble(own_lines)
        self._history = History()
        self._onlookers: list[Onlooker] = []
        self._typed = b""
        self._loop = asyncio.get_running_loop()
        sock.settimeout(0)
        self._loop.add_reader(sock, self._show)

    def join(self) -> socket.socket:
        """Return the end of a new onlooker, which the caller closes. The history comes first.

        Raises:
            BpferryError: there are too many.
        """
        if len(self._onlookers) >= MAX_ONLOOKERS:
            raise BpferryError(
                f"{MAX_ONLOOKERS} terminals are connected to this console",
                "leave one of them, with Ctrl-] and d",
            )
        ours, theirs = socket.socketpair()
        onlooker = Onlooker(ours, self._type, self._onlookers.remove)
        self._onlookers.append(onlooker)
        onlooker.listen(listens=not self._typed)
        onlooker.show(self._history.shown())
        return theirs

    async def end(self) -> None:
        """Show what is left, give everybody the time to read it, and let all go."""
        while self._show():
            pass
        self._stop_reading()
        self._loop.remove_writer(self._sock)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                for onlooker in tuple(self._onlookers):
                    await onlooker.drain()
        for onlooker in self._onlookers:
            onlooker.close()
        self._onlookers.clear()

    def _show(self) -> bool:
        """Show one chunk of what the guest wrote; return False if there is no more."""
        try:
            data = self._sock.recv(CHUNK_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._stop_reading()
            return False
        data = self._preamble.strip(data)
        self._history.add(data)
        for onlooker in tuple(self._onlookers):
            onlooker.show(data)
        return True

    def _stop_reading(self) -> None:
        self._loop.remove_reader(self._sock)

    def _type(self, data: bytes) -> None:
        was_empty = not self._typed
        self._typed += data
        if was_empty:
            self._send_typed()
            if self._typed:
                self._listen(listens=False)
                self._loop.add_writer(self._sock, self._send_typed)

    def _send_typed(self) -> None:
        try:
            self._typed = self._typed[self._sock.send(self._typed) :]
        except BlockingIOError:
            return
        except OSError:
            # QEMU has closed its end: nobody is there to read.
            self._typed = b""
        if not self._typed:
            self._loop.remove_writer(self._sock)
            self._listen(listens=True)

    def _listen(self, *, listens: bool) -> None:
        for onlooker in self._onlookers:
            onlooker.listen(listens=listens)


@contextlib.asynccontextmanager
async def open_hub(prepared: Prepared) -> AsyncIterator[Hub | None]:
    """Serve the console of a VM, if it has one at bpferry, until the block ends."""
    if prepared.console is None:
        yield None
        return
    own_lines = sum(endpoint.kind == "pty" for endpoint in prepared.endpoints)
    hub = Hub(prepared.console, own_lines)
    try:
        yield hub
    finally:
        await hub.end()
