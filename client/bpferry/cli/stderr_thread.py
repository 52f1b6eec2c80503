# SPDX-License-Identifier: LGPL-2.1-or-later
"""Standard error while a VM runs: whoever does not read it holds up nobody.

A terminal that was stopped by Ctrl-S, or a pipe to a program that sleeps, takes no more lines. A
supervisor that waited for it would answer no command, and its QEMU would wait to write its own. So
a thread does the writing; what nobody reads in time is lost, and counted where it is missing.
"""

import contextlib
import os
import signal
import stat
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from bpferry.cli import output

STDERR: Final = 2

MAX_BYTES: Final = 256 << 10
"""Of lines that wait to be written."""

CLOSE_SECONDS: Final = 2.0
"""For the last lines to be read, when the VM has ended."""


@contextlib.contextmanager
def unhurried_stderr(wrote: Callable[[], None] | None = None) -> Iterator[None]:
    """Say everything in the block by a thread, if somebody may have to be waited for.

    The thread calls *wrote* whenever it has written.
    """
    if not _may_stall():
        yield
        return
    writer = Writer(STDERR, wrote)
    with output.saying_by(writer.put):
        try:
            yield
        finally:
            if not writer.close():
                output.fall_silent()


def _may_stall() -> bool:
    try:
        own = sys.stderr is not None and sys.stderr.fileno() == STDERR
        return own and not stat.S_ISREG(os.fstat(STDERR).st_mode)
    except (OSError, ValueError):
        return False


class Writer:
    """Writes lines to an fd, which stays the caller's, in the order in which they come."""

    def __init__(self, fd: int, wrote: Callable[[], None] | None = None) -> None:
        self._fd = fd
        self._wrote = wrote
        self._encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._lost = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True, name="stderr")
        # Those for us have to interrupt what the main thread waits for.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def put(self, line: str) -> None:
        """Have *line* written, or lose it. This takes no time."""
        data = line.encode(self._encoding, "backslashreplace")
        with self._changed:
            if self._size + len(data) > MAX_BYTES:
                self._lost += 1
                return
            self._lines.append(data)
            self._size += len(data)
            self._changed.notify()

    def close(self) -> bool:
        """Wait a moment until all is written; say whether it is."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(CLOSE_SECONDS)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while data := self._take():
            with contextlib.suppress(OSError):
                # A reader that has left must not end a running VM.
                self._write(data)
                if self._wrote is not None:
                    self._wrote()

    def _take(self) -> bytes:
        """Wait for lines and return them; empty at the end."""
        with self._changed:
            while not (self._lines or self._lost or self._closed):
                self._changed.wait()
            data, lost = b"".join(self._lines), self._lost
            self._lines.clear()
            self._size = self._lost = 0
        if lost:
            told = f"{output.PROGRAM}: {lost} lines are missing here: nobody read them in time\n"
            data += told.encode()
        return data

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._fd, data) :]
