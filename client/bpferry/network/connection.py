# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ask a helper, over a connection that is made when it is first needed.

Answers are checked before they are used: each has to be a message of the protocol that answers
what was asked, with no fds where none belong. In case of doubt all fds are closed.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable
from typing import ClassVar, Final, TypeVar

from bpferry.errors import OF_HELPERS, BpferryError, HelperError, NoHelper, NotMember
from bpferry.network.groups import explain_denied
from bpferry_wire import channel
from bpferry_wire.errors import Code, PeerClosed, WireError
from bpferry_wire.fds import Closing, OwnedFds
from bpferry_wire.frozen import Frozen
from bpferry_wire.messages import (
    CanReply,
    Create,
    Delete,
    ErrorReply,
    Hello,
    HelloReply,
    Quota,
    QuotaReply,
    Reply,
    Request,
)
from bpferry_wire.packets import decode_reply, encode_request
from bpferry_wire.vm_names import KEY, vm_of, without_vm

T = TypeVar("T", bound=Reply)


class Service(Frozen):
    """One of the two helpers."""

    unit: str
    """The name of its systemd unit, without the suffix."""
    path: str
    """Its socket."""
    variable: str
    """The environment variable that names another socket."""


BPF: Final = Service("bpferry-bpf", "/run/bpferry/bpf.sock", "BPFERRY_BPF_SOCKET")
TAP: Final = Service("bpferry-tap", "/run/bpferry/tap.sock", "BPFERRY_TAP_SOCKET")

ANSWER_SECONDS: Final = 15.0
"""The verifier takes 0.07 s, starting the helper 0.1 s, and others may be served before us."""

SERVICE_SECONDS: Final = 60.0
"""The same while a service manager waits for us to start. When a host boots, everything starts at
once, and a VM that has started without its eBPF set does not get one later. A start asks twice for
taps and twice for sets, so this is a fifth of our unit's TimeoutStartSec=."""

MANAGER: Final = "NOTIFY_SOCKET"
"""sd_notify(3). A VM that has started has taken it out of its environment."""

SLOW_SECONDS: Final = 1.0
"""After which ``Connection.slow`` is called."""

ATTEMPTS: Final = 2
"""A helper that dies loses the packet; systemd starts another for the next connection."""

RETRY_SECONDS: Final = (0.001, 0.005)
"""Between which bounds to wait, at random, before connecting again while the helper's queue of new
connections is full. The helper takes 64 from it in some 5 ms, and whoever floods it fills it as
fast, so who tries less often waits longer."""

ASKED_ONCE: Final = (Create, Delete)
"""What a helper that died may have done already, so that it could be done twice."""

CLOSED_HINT: Final = (
    "the socket has to belong to a group, such as 'bpferry': see SocketGroup= in the socket's unit"
)

HINTS: Final = {
    Code.REFUSED: "ask the administrator to allow it; 'bpferry can-i' shows what you may do",
    Code.NO_SUCH_BRIDGE: "see: ip link show type bridge; 'bpferry can-i' shows what you may use",
}
"""What to do if a request would be refused; the reply to ``can`` has no hint."""


class Connection(Closing):
    """A connection to one helper."""

    service: ClassVar[Service]
    slow: Callable[[str], None] | None = None
    """Is called with the helper's path if an answer takes long; set on the class, for all."""

    def __init__(self, path: str | None = None, seconds: float | None = None) -> None:
        """Ask at *path*, or where the environment says, or at the default place.

        An answer may take *seconds*, or as long as is usual.
        """
        self.path = path or os.environ.get(self.service.variable) or self.service.path
        self._seconds = _usual_seconds() if seconds is None else seconds
        self._sock: socket.socket | None = None

    def hello(self) -> HelloReply:
        """Ask the helper who it is and how it sees us."""
        return self.ask_plain(Hello(), HelloReply)

    def quota(self) -> QuotaReply:
        """Ask how much we hold and may hold."""
        return self.ask_plain(Quota(), QuotaReply)

    def close(self) -> None:
        """Close the connection. The next question connects again."""
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def ask_plain(self, request: Request, kind: type[T]) -> T:
        """Return the answer to *request*, which must not come with fds.

        Raises:
            NoHelper: nobody answers at the socket.
            BpferryError: what the helper says against it, or how it failed.
        """
        answer, fds = self.ask(request, kind)
        with fds:
            if fds:
                raise self.unsound(f"{len(fds)} fds that nobody asked for")
        return answer

    def ask(self, request: Request, kind: type[T]) -> tuple[T, OwnedFds]:
        """Return the answer to *request* and its fds, which the caller owns.

        Raises:
            NoHelper: nobody answers at the socket.
            BpferryError: what the helper says against it, or how it failed.
        """
        reply, fds = self._ask(request)
        if vm_of(request) and _is_about_vm(reply):
            # A helper of an earlier version hung up: it does not know the name of a VM.
            fds.close()
            self.close()
            reply, fds = self._ask(without_vm(request))
        if isinstance(reply, kind):
            return reply, fds
        fds.close()
        if isinstance(reply, ErrorReply):
            raise to_error(reply)
        raise self.unsound("a reply to another request")

    def unsound(self, what: str) -> HelperError:
        """Return the error for *what* the helper sent."""
        return HelperError(
            f"the helper at '{self.path}' sent an invalid reply: {what}",
            "client and helper may be of different versions; the reply was ignored",
        )

    def _ask(self, request: Request) -> tuple[Reply | ErrorReply, OwnedFds]:
        packet = encode_request(request)
        attempts = 1 if isinstance(request, ASKED_ONCE) else ATTEMPTS
        for left in reversed(range(attempts)):
            try:
                received = self._exchange(packet)
                break
            except (PeerClosed, ConnectionResetError) as error:
                if not left:
                    raise self._no_answer(attempts) from error
        try:
            return decode_reply(received.data, request), received.fds
        except WireError as error:
            received.fds.close()
            self.close()
            raise self.unsound(str(error)) from error

    def _exchange(self, packet: bytes) -> channel.Packet:
        """Send *packet* and return what comes next. Without an answer, the connection is closed."""
        try:
            sock = self._connected()
            # A helper that turns us away does not read, but has said why before it closed.
            with contextlib.suppress(BrokenPipeError):
                channel.send(sock, packet)
            if self.slow is not None:
                from bpferry.network.readable import is_readable  # noqa: PLC0415 - who waits

                if not is_readable(sock, SLOW_SECONDS):
                    self.slow(self.path)
            return channel.receive(sock)
        except BaseException as error:
            # A late answer would be taken for the answer to the next question.
            self.close()
            if isinstance(error, TimeoutError):
                message = f"the helper at '{self.path}' did not answer within {self._seconds:g} s"
                raise HelperError(message, self._log_hint()) from error
            if isinstance(error, PeerClosed | ConnectionResetError):
                raise
            if isinstance(error, WireError | OSError):
                raise self.unsound(str(error)) from error
            raise

    def _no_answer(self, attempts: int) -> HelperError:
        often = "" if attempts == 1 else ", twice"
        hint = self._log_hint()
        if attempts == 1:
            hint = f"'bpferry tap list' shows whether it was done all the same; {hint}"
        return HelperError(f"the helper at '{self.path}' hung up without an answer{often}", hint)

    def _log_hint(self) -> str:
        return f"the administrator can find the reason with: journalctl -u {self.service.unit}"

    def _connected(self) -> socket.socket:
        if self._sock is not None:
            return self._sock
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            sock.settimeout(self._seconds)
            self._connect(sock)
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError | ValueError) and not isinstance(error, TimeoutError):
                raise self._no_helper(error) from error
            raise
        self._sock = sock
        return sock

    def _connect(self, sock: socket.socket) -> None:
        """Connect *sock*, and go on trying while others have filled the queue of connections."""
        deadline = time.monotonic() + self._seconds
        while True:
            try:
                sock.connect(self.path)
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise TimeoutError from error
                # Another moment for each client, or all would come back together.
                import random  # noqa: PLC0415 - for a helper that is flooded

                time.sleep(random.uniform(*RETRY_SECONDS))  # noqa: S311 - nobody gains by guessing
            else:
                return

    def _no_helper(self, error: OSError | ValueError) -> BpferryError:
        """Return the error that no helper is there, or that this user is not let in."""
        message = f"cannot connect to the helper at '{self.path}'"
        if isinstance(error, PermissionError):
            cause, hint = explain_denied(self.path, CLOSED_HINT, "")
            return NotMember(f"{message}: {cause}", hint)
        cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        service = self.service
        hint = f"is the helper installed and started? See: systemctl status {service.unit}.socket"
        if self.path == os.environ.get(service.variable):
            usual = f"the usual one is '{service.path}'"
            hint = f"{hint}; {service.variable} names this socket, and {usual}"
        return NoHelper(f"{message}: {cause}", hint)


def _is_about_vm(reply: Reply | ErrorReply) -> bool:
    """Say whether *reply* refuses the key with the name of a VM."""
    if not isinstance(reply, ErrorReply) or reply.code is not Code.BAD_REQUEST:
        return False
    return f"unknown key '{KEY}'" in reply.message


def _usual_seconds() -> float:
    return SERVICE_SECONDS if MANAGER in os.environ else ANSWER_SECONDS


def why_not(reply: CanReply) -> BpferryError | None:
    """Return the error with which a request would fail, by the helper's *reply* about it."""
    if reply.allowed:
        return None
    code = Code(reply.code or Code.REFUSED)
    return to_error(ErrorReply(code, reply.because, HINTS.get(code, "")))


def to_error(reply: ErrorReply) -> BpferryError:
    """Return the error that the helper's *reply* means for the client."""
    message = f"the helper refused: {reply.message}"
    kind = OF_HELPERS.get(reply.code, HelperError)
    error = kind(message, reply.hint)
    error.code = reply.code.value
    return error
