# SPDX-License-Identifier: LGPL-2.1-or-later
"""The least that serves a vhost-user card: it answers QEMU's questions, and moves no packet.

message   u32 request; u32 flags; u32 size; then so many bytes    (vhost-user.rst in QEMU's pages)
"""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

HEADER: Final = struct.Struct("=III")
NUMBER: Final = struct.Struct("=Q")

GET_FEATURES: Final = 1
GET_VRING_BASE: Final = 11
VERSION_1: Final = 1 << 32
"""VIRTIO_F_VERSION_1, the only feature that this one has."""

ANSWER: Final = 0x5
"""The flags of an answer: version 1, and that it is one."""

TIMEOUT_SECONDS: Final = 60.0


class Server:
    """Serves one QEMU, in a thread of its own."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self.requests: list[int] = []
        """What it was asked, by number."""
        self._connect = connect
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until QEMU is gone."""
        self._thread.join(TIMEOUT_SECONDS)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            connection = self._connect()
            connection.settimeout(TIMEOUT_SECONDS)
            with connection:
                while self._answer(connection):
                    pass

    def _answer(self, connection: socket.socket) -> bool:
        """Take one message and answer it if it is a question; return False at the end."""
        # The fds that come with some messages are not taken, and so the kernel closes them.
        header = connection.recv(HEADER.size, socket.MSG_WAITALL)
        if len(header) < HEADER.size:
            return False
        request, _flags, size = HEADER.unpack(header)
        body = connection.recv(size, socket.MSG_WAITALL) if size else b""
        self.requests.append(request)
        if request == GET_FEATURES:
            body = NUMBER.pack(VERSION_1)
        if request in (GET_FEATURES, GET_VRING_BASE):
            connection.sendall(HEADER.pack(request, ANSWER, len(body)) + body)
        return True


@contextlib.contextmanager
def serving(path: Path) -> Iterator[Server]:
    """Serve one QEMU at the Unix socket *path*."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(TIMEOUT_SECONDS)
        yield Server(lambda: listening.accept()[0])


@contextlib.contextmanager
def connecting(path: Path) -> Iterator[Server]:
    """Serve one QEMU that listens at the Unix socket *path*, which need not be there yet."""
    yield Server(lambda: _connect_to(path))


def _connect_to(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    end = time.monotonic() + TIMEOUT_SECONDS
    while connection.connect_ex(str(path)):
        if time.monotonic() > end:
            connection.close()
            raise TimeoutError
        time.sleep(0.02)
    return connection
