# SPDX-License-Identifier: LGPL-2.1-or-later
"""The socket of a VM in its runtime folder."""

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SOCKET_NAME: Final = "control.sock"
"""In the VM's runtime folder."""

BACKLOG: Final = 32
"""Commands that may wait until the supervisor takes them, which it does at once."""

UCRED: Final = struct.Struct("3i")
"""struct ucred (unix(7)): process, user, group."""


@contextlib.contextmanager
def open_control(folder: Path) -> Iterator[socket.socket]:
    """Listen in the runtime *folder* of a VM; socket and file go with the block.

    Raises:
        BpferryError: nobody can listen there.
    """
    from bpferry.machine.listening import listen_at  # noqa: PLC0415 - not for those who connect

    with listen_at(folder / SOCKET_NAME, socket.SOCK_SEQPACKET, BACKLOG) as sock:
        sock.settimeout(0)
        yield sock


def is_listened_at(path: Path) -> bool:
    """Say whether a VM takes connections at *path*. One that was killed leaves its file there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.settimeout(0)
        try:
            sock.connect(str(path))
        except BlockingIOError:
            # Others wait in the queue before us.
            return True
        except (OSError, ValueError):
            return False
    return True


def peer_uid(sock: socket.socket) -> int:
    """Return the user at the other end of *sock*, as it was when the connection was made."""
    return _peer(sock)[1]


def peer_pid(sock: socket.socket) -> int:
    """Return the process at the other end of *sock*; of a server, the one that began to listen."""
    return _peer(sock)[0]


def _peer(sock: socket.socket) -> tuple[int, int]:
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
    pid, uid, _gid = UCRED.unpack(credentials)
    return int(pid), int(uid)
