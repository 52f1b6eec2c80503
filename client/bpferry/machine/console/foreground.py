# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM that was started on a terminal, and can be detached from it.

The supervisor is forked off before it starts anything, and has a session of its own without a
terminal. The process that the shell waits for stays at the terminal: it is a session at the VM's
console, as that of `bpferry console`, passes on the signals that it gets, and ends with the
supervisor's exit status. Between the two there is a connection like those of the control socket.
Both write on the same terminal, so the supervisor rings a bell, which is a pipe, after it has
spoken: a question that was open there has to be asked again.

    detached          the process in the foreground ends; the VM goes on
    the VM ends       so do both
    it is lost        (kill -9) the same as a closed terminal: the guest is asked to power down
"""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Collection, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Final

from bpferry.machine.control.client import Conversation
from bpferry_wire.fds import OwnedFd

if TYPE_CHECKING:
    # It needs asyncio, which the process in the foreground does not.
    from bpferry.machine.control.server import Server

STDERR: Final = 2

FORWARDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Leash:
    """The supervisor's side."""

    def __init__(self, sock: socket.socket, bell: OwnedFd) -> None:
        """Take over the connection, and the end of the pipe to write to."""
        self._sock = sock
        self._bell = bell
        self._is_detached = False

    def serve(self, server: "Server", lost: Callable[[], None]) -> None:
        """Answer the process in the foreground; call *lost* when it is gone without a word."""
        server.adopt(self._sock, lambda: None if self._is_detached else lost())

    def spoke(self) -> None:
        """Let the process in the foreground know that something was written on the terminal."""
        # It may have left, or not have looked since many lines: one ring is as good as many.
        with contextlib.suppress(OSError):
            if not self._is_detached and os.isatty(STDERR):
                os.write(self._bell.borrow(), b"\a")

    def detach(self) -> None:
        """Let go of the terminal: nobody reads there any more what we say."""
        self._is_detached = True
        _to_null(1, 2)


class Foreground(Conversation):
    """The side of the process at the terminal, which is the supervisor's parent."""

    def __init__(
        self, vm_name: str, sock: socket.socket, bell: OwnedFd, pid: int, mask: Collection[int] = ()
    ) -> None:
        """Take over *sock* and *bell*, to read from.

        *mask* is that of the signals before those for *pid* were blocked.
        """
        super().__init__(vm_name, sock, None)
        self.bell = bell
        self._pid = pid
        self._mask = mask

    def close(self) -> None:
        """Close the connection and the bell."""
        super().close()
        self.bell.close()

    def status(self) -> int:
        """Wait for the supervisor's end, and return its exit status; 128 + n for signal n."""
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return status if status >= 0 else 128 - status

    @contextlib.contextmanager
    def passing_signals_on(self) -> Iterator[None]:
        """Let the supervisor have the signals that we get, until the block ends."""

        def forward(number: int, _frame: FrameType | None) -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)

        before = {number: signal.signal(number, forward) for number in FORWARDED}
        try:
            # Those that came since the fork arrive now.
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def fork_supervisor(vm_name: str) -> Leash | Foreground:
    """Fork; return in the supervisor its leash, and in the process in the foreground the rest."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    heard, rung = map(OwnedFd, os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK))
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    # One that came before we pass it on would end us, and the VM would lose its terminal.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    # Nothing has made a thread by now.
    pid = os.fork()
    if pid:
        theirs.close()
        rung.close()
        return Foreground(vm_name, ours, heard, pid, mask)
    ours.close()
    heard.close()
    os.setsid()
    _to_null(0)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return Leash(theirs, rung)


def _to_null(*fds: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in fds:
        os.dup2(null, fd)
    os.close(null)
