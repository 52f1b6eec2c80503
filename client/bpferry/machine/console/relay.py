# SPDX-License-Identifier: LGPL-2.1-or-later
"""Between a console and standard streams.

A thread of its own relays, so that a terminal or pipe that nobody reads holds up nothing else.
"""

import contextlib
import os
import select
import socket
import threading
from collections.abc import Iterator
from typing import Final, Protocol

from bpferry.machine.console.streams import Streams
from bpferry.machine.console.terminal import is_ours

CHUNK_BYTES: Final = 4096

MAX_TYPED: Final = 65536
"""What is kept of what is typed at a terminal while the guest does not read. The rest is lost."""

END_SECONDS: Final = 1.0
"""How long the end of the relay may take if nobody reads what the guest wrote."""


class Desk(Protocol):
    """Who looks at each key before the guest gets it."""

    @property
    def asking(self) -> bool:
        """Whether the user is asked something, so that nothing else may be shown."""

    def take(self, typed: bytes) -> bytes | None:
        """Return what of *typed* is for the guest; None if the user leaves."""

    def showed(self, data: bytes) -> None:
        """Take note of what was shown last."""

    def interrupted(self) -> None:
        """Take note that somebody else has written a line on the terminal."""


@contextlib.contextmanager
def relay_to(sock: socket.socket, streams: Streams) -> Iterator[None]:
    """Relay between *sock*, which is closed with the block, and *streams* until the block ends.

    At the end, what has arrived is still shown.
    """
    keyboard = streams.keyboard
    if keyboard is not None and not is_ours(keyboard):
        keyboard = None
    with sock:
        sock.settimeout(0)
        relay = Relay(sock.fileno(), streams.output, keyboard)
        relay.start()
        try:
            yield
        finally:
            relay.stop()


class Relay:
    """The thread, and the pipe that ends it."""

    def __init__(
        self,
        stream: int,
        output: int,
        keyboard: int | None,
        desk: Desk | None = None,
        bell: int | None = None,
    ) -> None:
        self._stream = stream
        self._output = output
        self._keyboard = keyboard
        self._desk = desk
        self._bell = None if desk is None else bell
        self._typed = b""
        self._abandoned = False
        """The console was to end while the thread waited for somebody to read."""
        self._end_reader, self._end_writer = os.pipe()
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)

    def start(self) -> None:
        """Relay from now on."""
        self._thread.start()

    def wait(self) -> None:
        """Wait until the console or the user has ended the relay. Signals are handled meanwhile."""
        self._thread.join()

    def stop(self) -> None:
        """Show what is left, and end the thread."""
        os.close(self._end_writer)
        self._thread.join(END_SECONDS)
        self._abandoned = True

    def _run(self) -> None:
        try:
            while not self._abandoned and self._step():
                pass
        finally:
            os.close(self._end_reader)

    def _step(self) -> bool:
        """Wait for one thing to happen and handle it; return False at the end."""
        asking = self._desk is not None and self._desk.asking
        happened = self._poll(asking=asking)
        if self._end_reader in happened:
            while self._show():
                pass
            return False
        events = happened.get(self._stream, 0)
        # While a question is open, only the end of the console is looked at.
        shown = events & (select.POLLHUP | select.POLLERR if asking else ~select.POLLOUT)
        if shown and not self._show():
            return False
        if self._bell in happened:
            self._hear(self._bell)
        if self._keyboard in happened and not self._read_keyboard(self._keyboard):
            return False
        self._send_typed()
        return True

    def _poll(self, *, asking: bool) -> dict[int | None, int]:
        poll = select.poll()
        poll.register(self._end_reader, 0)
        shown = 0 if asking else select.POLLIN
        poll.register(self._stream, shown | (select.POLLOUT if self._typed else 0))
        # A terminal is read in any case, or there would be no way out.
        if self._keyboard is not None and (self._desk is not None or not self._typed):
            poll.register(self._keyboard, select.POLLIN)
        if self._bell is not None:
            poll.register(self._bell, select.POLLIN)
        return dict(poll.poll())

    def _hear(self, bell: int | None) -> None:
        """Tell the desk of the bell, which may have rung several times."""
        if bell is None or self._desk is None:
            return
        if os.read(bell, CHUNK_BYTES):
            self._desk.interrupted()
        else:
            self._bell = None

    def _show(self) -> bool:
        """Show one chunk of what the guest wrote; return False if there is no more."""
        try:
            data = os.read(self._stream, CHUNK_BYTES)
        except OSError:
            return False
        # Even if nobody reads any more, the guest must be able to write.
        with contextlib.suppress(OSError):
            _write_all(self._output, data)
        if self._desk is not None:
            self._desk.showed(data)
        return bool(data)

    def _read_keyboard(self, keyboard: int | None) -> bool:
        """Read what was typed; return False if the user leaves."""
        try:
            typed = os.read(keyboard, CHUNK_BYTES) if keyboard is not None else b""
        except OSError:
            typed = b""
        if not typed:
            self._keyboard = None
        elif self._desk is not None:
            kept = self._desk.take(typed)
            if kept is None:
                return False
            self._typed += kept[: MAX_TYPED - len(self._typed)]
        else:
            self._typed = typed
        return True

    def _send_typed(self) -> None:
        try:
            if self._typed:
                self._typed = self._typed[os.write(self._stream, self._typed) :]
        except BlockingIOError:
            pass
        except OSError:
            self._typed = b""
            self._keyboard = None


def _write_all(output: int, data: bytes) -> None:
    while data:
        data = data[os.write(output, data) :]
