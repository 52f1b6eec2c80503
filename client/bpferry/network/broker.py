# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ask the helper for eBPF sets, and believe nothing of what it sends before looking at it.

A set comes as one packet with its fds. Their number, kind, types, sizes and order have to be what
the helper says, what the kernel says, and, for an object that we know, what is known of it. On
any doubt all of them are closed.
"""

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Final, TypeVar

from bpferry.errors import BpferryError, HelperError, NoHelper, Refused, Unsupported
from bpferry.network.fdinfo import expected_by, read_description
from bpferry_wire import channel
from bpferry_wire.errors import Code, PeerClosed, WireError
from bpferry_wire.fds import BorrowedFd, Closing, OwnedFds
from bpferry_wire.messages import (
    Can,
    CanReply,
    ErrorReply,
    FdDescription,
    Hello,
    HelloReply,
    Load,
    LoadReply,
    Quota,
    QuotaReply,
    Reply,
    Request,
)
from bpferry_wire.objects import KNOWN
from bpferry_wire.packets import decode_reply, encode_request

T = TypeVar("T", bound=Reply)

DEFAULT_PATH: Final = "/run/bpferry/bpf.sock"
PATH_VARIABLE: Final = "BPFERRY_BPF_SOCKET"
"""The environment variable that names another socket."""

ANSWER_SECONDS: Final = 15.0
"""Loading takes the verifier 0.07 s, starting the helper 0.1 s; others may be before us."""

ATTEMPTS: Final = 2
"""A helper that dies loses the packet; systemd starts another for the next connection."""

START_HINT: Final = "is the helper installed and started? See: systemctl status bpferry-bpf.socket"
GROUP_HINT: Final = (
    "members of the socket's group may use the helper: ask the administrator to run "
    "'usermod -aG kvm USER', then log in again"
)

ERROR_TYPES: Final[dict[Code, type[BpferryError]]] = {
    Code.REFUSED: Refused,
    Code.QUOTA: Refused,
    Code.UNKNOWN_OBJECT: Refused,
    Code.UNSUPPORTED: Unsupported,
}
"""Who may have how much of which QEMU's objects is policy; every other code is a failure."""


class GrantedSet(Closing):
    """The programs and maps of one loaded object, owned until closed."""

    def __init__(self, object_id: str, names: tuple[str, ...], fds: OwnedFds) -> None:
        """Take ownership of *fds*, which are called *names*, in the same order."""
        self.object_id = object_id
        self.names = names
        self._fds = fds

    def borrow(self) -> list[BorrowedFd]:
        """Return the fds: programs, then maps, as QEMU wants them."""
        return self._fds.borrow()

    def by_name(self) -> Mapping[str, BorrowedFd]:
        """Return the fds by the names of the functions and variables that they are."""
        return dict(zip(self.names, self._fds.borrow(), strict=True))

    def close(self) -> None:
        """Close all fds. Closing twice does nothing."""
        self._fds.close()


class Broker(Closing):
    """A connection to the helper, made when it is first needed."""

    def __init__(self, path: str | None = None, seconds: float = ANSWER_SECONDS) -> None:
        """Ask at *path*, or where the environment says, or at the usual place."""
        self.path = path or os.environ.get(PATH_VARIABLE) or DEFAULT_PATH
        self._seconds = seconds
        self._sock: socket.socket | None = None

    def hello(self) -> HelloReply:
        """Ask the helper who it is and how it sees us."""
        return self._ask_plain(Hello(), HelloReply)

    def quota(self) -> QuotaReply:
        """Ask how much we hold and may hold."""
        return self._ask_plain(Quota(), QuotaReply)

    def can(self, object_id: str, digest: bytes) -> CanReply:
        """Ask whether ``load`` would be allowed."""
        return self._ask_plain(Can(Load(object_id, digest)), CanReply)

    def load(self, object_id: str, digest: bytes) -> GrantedSet:
        """Return a fresh set of the object *object_id* whose ELF file has this SHA-256 *digest*.

        Raises:
            NoHelper: nobody answers at the socket.
            Refused: policy does not allow it.
            HelperError: it failed, or what came is not what it should be.
        """
        reply, fds = self._ask(Load(object_id, digest))
        try:
            described = self._expect(reply, LoadReply).fds
            check_set(object_id, described, fds)
        except BaseException:
            fds.close()
            raise
        return GrantedSet(object_id, tuple(fd.name for fd in described), fds)

    def close(self) -> None:
        """Hang up. The next question connects again."""
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def _ask_plain(self, request: Request, kind: type[T]) -> T:
        reply, fds = self._ask(request)
        with fds:
            answer = self._expect(reply, kind)
            if fds:
                raise self._unsound(f"{len(fds)} fds that nobody asked for")
            return answer

    def _expect(self, reply: Reply | ErrorReply, kind: type[T]) -> T:
        if isinstance(reply, ErrorReply):
            raise to_error(reply)
        if not isinstance(reply, kind):
            raise self._unsound("an answer to another question")
        return reply

    def _ask(self, request: Request) -> tuple[Reply | ErrorReply, OwnedFds]:
        """Return the answer to *request* and what came with it; the caller owns the fds."""
        packet = encode_request(request)
        for attempt in range(ATTEMPTS):
            try:
                sock = self._connected()
                # A helper that turns us away does not read, but has said why before it hung up.
                with contextlib.suppress(BrokenPipeError):
                    channel.send(sock, packet)
                received = channel.receive(sock)
                break
            except (PeerClosed, ConnectionResetError) as error:
                self.close()
                if attempt == ATTEMPTS - 1:
                    raise HelperError(
                        f"the helper at '{self.path}' hung up without an answer, twice",
                        "the administrator finds the reason with: journalctl -u bpferry-bpf",
                    ) from error
            except TimeoutError as error:
                self.close()
                raise HelperError(
                    f"the helper at '{self.path}' did not answer within {self._seconds:g} s",
                    "the administrator finds the reason with: journalctl -u bpferry-bpf",
                ) from error
            except (WireError, OSError) as error:
                self.close()
                raise self._unsound(str(error)) from error
        return self._decode(received, request), received.fds

    def _decode(self, received: channel.Packet, request: Request) -> Reply | ErrorReply:
        try:
            return decode_reply(received.data, request)
        except WireError as error:
            received.fds.close()
            self.close()
            raise self._unsound(str(error)) from error

    def _unsound(self, what: str) -> HelperError:
        return HelperError(
            f"the helper at '{self.path}' sent something that is not sound: {what}",
            "client and helper may be of different versions; nothing of it was used",
        )

    def _connected(self) -> socket.socket:
        if self._sock is not None:
            return self._sock
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            sock.settimeout(self._seconds)
            sock.connect(self.path)
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError | ValueError):
                raise self._no_helper(error) from error
            raise
        self._sock = sock
        return sock

    def _no_helper(self, error: OSError | ValueError) -> NoHelper:
        if isinstance(error, PermissionError):
            return NoHelper(
                f"cannot connect to the helper at '{self.path}': not allowed", GROUP_HINT
            )
        cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return NoHelper(f"cannot connect to the helper at '{self.path}': {cause}", START_HINT)


def to_error(reply: ErrorReply) -> BpferryError:
    """Return the error that the helper's *reply* means to the client."""
    message = f"the helper said no: {reply.message}"
    kind = ERROR_TYPES.get(reply.code, HelperError)
    error = kind(message, reply.hint)
    error.code = reply.code.value
    return error


def check_set(object_id: str, described: tuple[FdDescription, ...], fds: OwnedFds) -> None:
    """Raise HelperError unless *fds* are the set of *object_id* that they are said to be."""
    if len(described) != len(fds):
        raise HelperError(
            f"the helper described {len(described)} fds for '{object_id}' and sent {len(fds)}"
        )
    if object_id in KNOWN and described != expected_by(KNOWN[object_id]):
        raise HelperError(
            f"the helper's set is not the object '{object_id}' as this version knows it",
            "client, helper and QEMU may be of versions that do not fit together",
        )
    for said, fd in zip(described, fds, strict=True):
        found = read_description(fd.borrow(), said.name)
        if found != said:
            raise HelperError(
                f"the fd for '{said.name}' is not what the helper says: {_difference(said, found)}"
            )


def _difference(said: FdDescription, found: FdDescription) -> str:
    pairs = zip(said._fields, said, found, strict=True)
    return ", ".join(f"{field} {have}, not {want}" for field, want, have in pairs if want != have)
