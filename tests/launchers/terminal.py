# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program on a terminal of its own, whose other end we have."""

import os
import pty
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Terminal:
    """The number of a terminal's other end, and the program on it. Borrows both."""

    number: int
    process: subprocess.Popen[bytes]

    def fileno(self) -> int:
        """Return the number."""
        return self.number


@contextmanager
def on_terminal(argv: Sequence[str]) -> Iterator[Terminal]:
    """Start *argv*; if it has not ended by itself, kill it."""
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        ) as process:
            os.close(theirs)
            try:
                yield Terminal(ours, process)
            finally:
                # virsh waits for its terminal when it is asked to end; virtme-ng is several.
                _kill_group(process)
    finally:
        os.close(ours)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill *process* and all that it started; what lost its parent is ours, see nothing_left."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-process.pid, 0)
