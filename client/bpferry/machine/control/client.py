# SPDX-License-Identifier: LGPL-2.1-or-later
"""The connection of a command to a running VM."""

import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from bpferry.errors import NotRunning
from bpferry.machine.control.packets import decode_reply, encode_request, without_none
from bpferry.machine.control_socket import peer_uid
from bpferry.network.readable import is_readable
from bpferry_wire import channel
from bpferry_wire.errors import PacketTruncated, PeerClosed, WireError
from bpferry_wire.fds import Closing, OwnedFds

ANSWER_SECONDS: Final = 30.0
"""A supervisor answers within milliseconds; QEMU may take some seconds."""

PATIENT_SECONDS: Final = 600.0
"""For what must not be left half done, so that a supervisor waits for it longer itself."""

SLOW_SECONDS: Final = 5.0
"""After which a user who waits is told so."""


TIMEVAL: Final = struct.Struct("@ll")
"""struct timeval: seconds and microseconds (SO_SNDTIMEO of socket(7))."""


class NobodyThere(NotRunning):
    """Nobody listens at the socket any more, or there is none."""


class Reply(NamedTuple):
    """What a VM answered. The caller owns the fds."""

    fields: Mapping[str, object]
    fds: OwnedFds


class Conversation(Closing):
    """Requests to the supervisor of one VM, and its answers, over the socket that it gets."""

    def __init__(self, vm_name: str, sock: socket.socket, seconds: float | None) -> None:
        """Take over *sock*. An answer is waited for *seconds*, or for as long as it takes."""
        self.vm_name = vm_name
        self._seconds = seconds
        self._sock = sock
        self.slow: Callable[[], None] | None = None
        """Is called if an answer takes longer than usual."""
        self.slow_seconds = SLOW_SECONDS
        """What is longer than usual."""
        sock.settimeout(seconds)

    def ask(self, op: str, **fields: object) -> Mapping[str, object]:
        """Return what the VM answers to *op*; fields that are None are not sent.

        Raises:
            NotRunning: it has ended, or does not answer.
            BpferryError: what it says against it.
        """
        self.send(op, **fields)
        return self.receive()

    def ask_for_fds(self, op: str, **fields: object) -> Reply:
        """Do the same, and return the fds of the reply too."""
        self.send(op, **fields)
        return self._receive()

    def send(self, op: str, **fields: object) -> None:
        """Ask without waiting for the answer, which ``receive`` returns."""
        with self._failing(), contextlib.suppress(BrokenPipeError):
            # A VM that refuses a connection says why, and closes it.
            channel.send(self._sock, encode_request(op, without_none(fields)))

    def receive(self) -> Mapping[str, object]:
        """Return the answer to what was sent; raises what ``ask`` does."""
        reply = self._receive()
        reply.fds.close()
        return reply.fields

    def _receive(self) -> Reply:
        with self._failing():
            if self.slow is not None and not is_readable(self._sock, self.slow_seconds):
                self.slow()
            packet = channel.receive(self._sock)
        try:
            return Reply(decode_reply(packet.data), packet.fds)
        except WireError as error:
            packet.fds.close()
            raise NotRunning(f"'{self.vm_name}' gave no valid answer: {error}") from error
        except BaseException:
            packet.fds.close()
            raise

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Say in the words of this module why a VM could not be asked."""
        try:
            yield
        except TimeoutError as error:
            raise self._deaf() from error
        except PacketTruncated as error:
            raise NotRunning(f"cannot take what '{self.vm_name}' answered: {error}") from error
        except (OSError, PeerClosed) as error:
            raise NobodyThere(f"'{self.vm_name}' has ended") from error

    def wait_for_end(self, seconds: float | None) -> bool:
        """Wait until the VM has ended, at most *seconds*; say whether it has."""
        if not is_readable(self._sock, seconds):
            return False
        try:
            return not self._sock.recv(1)
        except OSError:
            return True

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()

    def _deaf(self) -> NotRunning:
        return NotRunning(
            f"'{self.vm_name}' did not answer within {self._seconds or 0:g} s",
            "its bpferry may be stopped: see 'ps -C bpferry'",
        )


class Control(Conversation):
    """A connection to the supervisor of one VM, at the socket *path*."""

    def __init__(self, vm_name: str, path: Path, seconds: float = ANSWER_SECONDS) -> None:
        """Connect.

        Raises:
            NobodyThere: nobody listens there.
            NotRunning: its bpferry takes no connection, or somebody else listens there.
        """
        super().__init__(vm_name, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET), seconds)
        try:
            self._connect(path, seconds)
        except BaseException:
            self._sock.close()
            raise
        if peer_uid(self._sock) != os.geteuid():
            self._sock.close()
            raise NotRunning(f"somebody else listens at '{path}'")

    def _connect(self, path: Path, seconds: float) -> None:
        # A socket with a timeout of Python's own would not wait for room in a full queue.
        limit = TIMEVAL.pack(int(seconds), 0)
        self._sock.settimeout(None)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        try:
            self._sock.connect(str(path))
        except BlockingIOError as error:
            raise self._deaf() from error
        except OSError as error:
            what = f"cannot ask the VM '{self.vm_name}' at '{path}'"
            raise NobodyThere(f"{what}: {error.strerror or error}") from error
        self._sock.settimeout(seconds)
