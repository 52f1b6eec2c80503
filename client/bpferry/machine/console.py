# SPDX-License-Identifier: LGPL-2.1-or-later
r"""The guest's serial console on our standard streams.

A thread of its own relays, so that a terminal or pipe that nobody reads holds up the console and
nothing else. What we read goes to the guest if somebody is there to type: a terminal whose
foreground is ours, or a pipe or file.

On a terminal each key goes to the guest at once, Ctrl-Z and Ctrl-\ too; Ctrl-C alone stays ours,
so that there is always a way out. The terminal's former mode comes back at the end.
"""

import contextlib
import os
import re
import select
import socket
import termios
import threading
from collections.abc import Iterator
from typing import Final

CHUNK_BYTES: Final = 4096

OWN_START: Final = b"char device redirected to "
OWN_LINE: Final = re.compile(OWN_START + rb"[^\n]+\n")
"""What QEMU says of a pseudo-terminal (chardev/char.c)."""

END_SECONDS: Final = 1.0
"""How long the end of the console may take if nobody reads what the guest wrote."""


@contextlib.contextmanager
def relay(
    sock: socket.socket, output: int, keyboard: int | None, own_lines: int = 0
) -> Iterator[None]:
    """Relay between *sock* and the fds *output* and *keyboard* until the block ends.

    At the end, everything that the guest has written is still shown. All three are borrowed. Up to
    *own_lines* lines at the start that are QEMU's own, not the guest's, are left out.
    """
    if keyboard is not None and not _is_ours(keyboard):
        keyboard = None
    with contextlib.ExitStack() as stack:
        if keyboard is not None and os.isatty(keyboard):
            stack.enter_context(_terminal_mode(keyboard))
        console = _Console(sock, output, keyboard, _Preamble(own_lines))
        stack.callback(console.stop)
        console.start()
        yield


def _is_ours(keyboard: int) -> bool:
    """Say whether we may read *keyboard*: a shell's background job would be stopped."""
    try:
        return not os.isatty(keyboard) or os.tcgetpgrp(keyboard) == os.getpgrp()
    except OSError:
        return False


@contextlib.contextmanager
def _terminal_mode(terminal: int) -> Iterator[None]:
    """Pass keys on at once and without echo, all except Ctrl-C."""
    before = termios.tcgetattr(terminal)
    wanted = termios.tcgetattr(terminal)
    wanted[0] &= ~(termios.IXON | termios.ICRNL)
    wanted[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN)
    for key in (termios.VQUIT, termios.VSUSP):
        wanted[6][key] = b"\0"  # _POSIX_VDISABLE on Linux
    termios.tcsetattr(terminal, termios.TCSADRAIN, wanted)
    try:
        yield
    finally:
        # The terminal may have gone away, which is why we end.
        with contextlib.suppress(termios.error):
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)


class _Console:
    """The thread, and the pipe that ends it."""

    def __init__(
        self, sock: socket.socket, output: int, keyboard: int | None, preamble: "_Preamble"
    ) -> None:
        self._sock = sock
        self._preamble = preamble
        self._output: int | None = output
        self._keyboard = keyboard
        self._typed = b""
        self._abandoned = False
        """The console was to end while the thread waited for somebody to read."""
        self._end_reader, self._end_writer = os.pipe()
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)

    def start(self) -> None:
        self._sock.settimeout(0)
        self._thread.start()

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
        poll = select.poll()
        poll.register(self._end_reader, 0)
        poll.register(self._sock, select.POLLIN | (select.POLLOUT if self._typed else 0))
        if self._keyboard is not None and not self._typed:
            poll.register(self._keyboard, select.POLLIN)
        happened = dict(poll.poll())
        if self._end_reader in happened:
            while self._show():
                pass
            return False
        if happened.get(self._sock.fileno(), 0) & ~select.POLLOUT and not self._show():
            return False
        if self._keyboard in happened:
            self._read_keyboard(self._keyboard)
        self._send_typed()
        return True

    def _show(self) -> bool:
        """Show one chunk of what the guest wrote; return False if there is no more."""
        try:
            data = self._sock.recv(CHUNK_BYTES)
        except OSError:
            return False
        # Even if nobody reads any more, the guest must be able to write.
        with contextlib.suppress(OSError):
            _write_all(self._output, self._preamble.strip(data))
        return bool(data)

    def _read_keyboard(self, keyboard: int | None) -> None:
        try:
            self._typed = os.read(keyboard, CHUNK_BYTES) if keyboard is not None else b""
        except OSError:
            self._typed = b""
        if not self._typed:
            self._keyboard = None

    def _send_typed(self) -> None:
        try:
            if self._typed:
                self._typed = self._typed[self._sock.send(self._typed) :]
        except BlockingIOError:
            pass
        except OSError:
            self._typed = b""
            self._keyboard = None


def _write_all(output: int | None, data: bytes) -> None:
    while data and output is not None:
        data = data[os.write(output, data) :]


class _Preamble:
    """Removes the lines in which QEMU names the pseudo-terminals of other devices.

    QEMU writes them on its standard output, before the guest runs; bpferry says the same in its own
    words.
    """

    def __init__(self, lines: int) -> None:
        self._left = lines
        self._held = b""

    def strip(self, data: bytes) -> bytes:
        """Return *data* without those lines; the start of one is held until the rest has come."""
        data, self._held = self._held + data, b""
        while self._left and data:
            line = OWN_LINE.match(data)
            if line is not None:
                data = data[line.end() :]
                self._left -= 1
            elif OWN_START.startswith(data[: len(OWN_START)]) and b"\n" not in data:
                self._held = data
                return b""
            else:
                self._left = 0
        return data
