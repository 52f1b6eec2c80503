# SPDX-License-Identifier: LGPL-2.1-or-later
"""One rtnetlink socket: send a message, wait for the answer, give up in time.

pyroute2 turns messages into bytes and back. Its socket classes cannot be used: they open a socket
themselves, and ours was opened by systemd in another network namespace. That socket outlives this
process, so answers that an earlier one did not read may still come in; their sequence numbers
differ.
"""

import errno
import fcntl
import importlib
import importlib.util
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from types import ModuleType
from typing import Any, Final

from bpferry_helper.errors import HelperError, StartupError
from bpferry_wire.fds import Closing, OwnedFd

# linux/netlink.h
NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_DUMP: Final = 0x300
NLM_F_CREATE: Final = 0x400
NLM_F_EXCL: Final = 0x200
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3

HEADER: Final = struct.Struct("=IHHII")
"""struct nlmsghdr of linux/netlink.h: length, type, flags, sequence number, port."""

ERROR: Final = struct.Struct("=i")
"""struct nlmsgerr begins with the negative errno; 0 means done."""

SIOCGSKNS: Final = 0x894C
"""linux/sockios.h: get an fd of the network namespace of a socket; needs CAP_NET_ADMIN."""

RECEIVE_BYTES: Final = 262_144
"""More than one packet of a dump has (32 KiB, net/netlink/af_netlink.c)."""

ANSWER_S: Final = 5.0
"""Moving a link takes some milliseconds, but others may hold the RTNL lock."""

DUMP_ATTEMPTS: Final = 5

AGAIN: Final = frozenset({errno.EINTR, errno.EBUSY})
"""Ask again if links changed during a dump (NLM_F_DUMP_INTR), and if an earlier process was killed
and left a dump half read on this socket (netlink_dump_start, cb_running)."""


class LinkError(HelperError):
    """The kernel refused, or did not answer in time.

    Attributes:
        errno: the kernel's; ETIMEDOUT if it did not answer.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(f"{message}: {os.strerror(number)}")
        self.errno = number


def load_codec(module: str, name: str) -> type[Any]:
    """Return the message class *name* of pyroute2's *module*, without the rest of pyroute2.

    The package's own __init__ imports everything: 310 modules and 22 MB, four times the helper
    without it. The codecs need a fifth of that, in 0.7 and in 0.9.

    Raises:
        StartupError: there is no pyroute2.
    """
    if "pyroute2" not in sys.modules:
        spec = importlib.util.find_spec("pyroute2")
        if spec is None or spec.submodule_search_locations is None:
            raise StartupError("pyroute2 is not installed: apt install python3-pyroute2")
        package = ModuleType("pyroute2")
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules["pyroute2"] = package
        # Its "config" runs two programs to learn about the machine, "uname" and "file" (before
        # 0.9.7), and imports multiprocessing. The codecs read these values from it.
        config = ModuleType("pyroute2.config")
        vars(config).update(AF_BRIDGE=7, data_plugins_pkgs=[], data_plugins_path=[])
        vars(package)["config"] = sys.modules["pyroute2.config"] = config
    codec: type[Any] = getattr(importlib.import_module(f"pyroute2.netlink.rtnl.{module}"), name)
    return codec


def open_netlink() -> "Netlink":
    """Return a socket in our own network namespace."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    sock.bind((0, 0))
    return Netlink(sock)


class Netlink(Closing):
    """Talks to the kernel about one network namespace. Safe to use from several threads."""

    def __init__(self, sock: socket.socket) -> None:
        """Take ownership of *sock*, a bound NETLINK_ROUTE socket."""
        self._sock = sock
        self._lock = Lock()
        self._sequence = int.from_bytes(os.urandom(4), "little")
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def namespace(self) -> OwnedFd:
        """Return a new fd of the network namespace that the socket is in."""
        return OwnedFd(fcntl.ioctl(self._sock.fileno(), SIOCGSKNS))

    def change(self, what: str, message: Any, kind: int, flags: int = 0) -> None:  # noqa: ANN401 - pyroute2 has no types
        """Send *message* of type *kind* and wait until it is done; *what* is for the error.

        Raises:
            LinkError: it was not done.
        """
        with self._turn(what):
            self._send(message, kind, NLM_F_REQUEST | NLM_F_ACK | flags)
            for _ in self._answers(what):
                pass

    def ask(self, what: str, message: Any, kind: int) -> bytes:  # noqa: ANN401 - as above
        """Send *message* and return the answer, a single message.

        Raises:
            LinkError: there is no answer, or it is an error.
        """
        with self._turn(what):
            self._send(message, kind, NLM_F_REQUEST | NLM_F_ACK)
            answers = list(self._answers(what))
        if len(answers) != 1:
            raise LinkError(f"cannot {what}", errno.EBADMSG)
        return answers[0]

    def dump(self, what: str, message: Any, kind: int) -> list[bytes]:  # noqa: ANN401 - as above
        """Send *message* and return all messages of the answer.

        Raises:
            LinkError: the list is not complete.
        """
        for attempt in range(DUMP_ATTEMPTS):
            try:
                with self._turn(what):
                    self._send(message, kind, NLM_F_REQUEST | NLM_F_DUMP)
                    return list(self._answers(what))
            except LinkError as error:
                if error.errno not in AGAIN or attempt == DUMP_ATTEMPTS - 1:
                    raise
                if error.errno == errno.EBUSY:
                    self._drain()
        raise AssertionError

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    @contextmanager
    def _turn(self, what: str) -> Iterator[None]:
        """Wait for our turn, but not for ever: the kernel takes its RTNL lock inside send(2)."""
        if not self._lock.acquire(timeout=ANSWER_S):
            raise LinkError(f"cannot {what}", errno.ETIMEDOUT)
        try:
            yield
        finally:
            self._lock.release()

    def _drain(self) -> None:
        """Read the rest of a dump that nobody waits for; until then no other can start."""
        with self._lock, suppress(OSError):
            while self._poll.poll(0):
                self._sock.recvfrom(RECEIVE_BYTES)

    def _send(self, message: Any, kind: int, flags: int) -> None:  # noqa: ANN401 - as above
        self._sequence = (self._sequence + 1) & 0xFFFF_FFFF
        header = message["header"]
        header["type"], header["flags"] = kind, flags
        header["sequence_number"], header["pid"] = self._sequence, 0
        message.encode()
        try:
            self._sock.send(bytes(message.data))
        except OSError as error:
            raise LinkError("cannot ask the kernel", error.errno or errno.EIO) from error

    def _answers(self, what: str) -> Iterator[bytes]:
        """Yield each message of the answer to the last one sent; must be read to the end.

        Raises:
            LinkError: as the kernel says; with EINTR if the links changed during the dump.
        """
        deadline = time.monotonic() + ANSWER_S
        changed = False
        while True:
            for kind, flags, raw in _split(self._receive(what, deadline), self._sequence):
                # The flag can be on any of the messages, even on the last one.
                changed = changed or bool(flags & NLM_F_DUMP_INTR)
                if kind in (NLMSG_ERROR, NLMSG_DONE):
                    _check_end(what, raw)
                    if changed:
                        raise LinkError(f"cannot {what}", errno.EINTR)
                    return
                yield raw

    def _receive(self, what: str, deadline: float) -> bytes:
        while True:
            left_ms = max(0.0, deadline - time.monotonic()) * 1000
            if not self._poll.poll(left_ms):
                raise LinkError(f"cannot {what}", errno.ETIMEDOUT)
            try:
                data, sender = self._sock.recvfrom(RECEIVE_BYTES)
            except OSError as error:
                raise LinkError(f"cannot {what}", error.errno or errno.EIO) from error
            # The kernel's port is 0; ignore what other processes send here.
            if sender[0] == 0:
                return data


def _split(data: bytes, sequence: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield type, flags and bytes of each message in *data* with our *sequence* number."""
    for kind, flags, number, raw in messages_in(data):
        if number == sequence:
            yield kind, flags, raw


def messages_in(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield type, flags, sequence number and bytes of each message in *data*."""
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, flags, number, _ = HEADER.unpack_from(data, at)
        if not HEADER.size <= length <= len(data) - at:
            return
        yield kind, flags, number, data[at : at + length]
        at += (length + 3) & ~3


def _check_end(what: str, raw: bytes) -> None:
    """Raise LinkError if the last message is an error."""
    body = raw[HEADER.size :]
    number = -ERROR.unpack_from(body)[0] if len(body) >= ERROR.size else 0
    if number > 0:
        raise LinkError(f"cannot {what}", number)
