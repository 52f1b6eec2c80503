# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who the peer is, according to the kernel only.

What counts is the uid and the gids that the peer had when it connected, read once after accept.
By the time we look, the pid may be another process (CVE-2019-6133), so it is only logged. If in
doubt, refuse: an identity that cannot be read must not be taken for uid 0 (CVE-2021-3560).
"""

import ctypes
import errno
import socket
import struct
from functools import cache
from typing import Final, NamedTuple

from bpferry_helper.errors import HelperError

SO_PEERGROUPS: Final = 59
"""asm-generic/socket.h. Python has no name for it, and its getsockopt() returns at most 1,024
bytes, 256 groups (python/cpython#112740). A process may have 65,536 (NGROUPS_MAX of
linux/limits.h)."""

MAX_GROUPS: Final = 65_536
USUAL_GROUPS: Final = 256
"""Tried first: room for the maximum would take 256 KiB per connection."""

UCRED: Final = struct.Struct("iII")
"""struct ucred of unix(7): pid, uid, gid. The ids are unsigned: as signed numbers, uids above 2^31
would be negative (CVE-2018-19788)."""

OVERFLOW_FILES: Final = ("/proc/sys/kernel/overflowuid", "/proc/sys/kernel/overflowgid")

NO_ID: Final = 0xFFFF_FFFF
"""(uid_t) -1 of chown(2): not a user."""


class IdentityError(HelperError):
    """The kernel could not tell who the peer is."""


class Peer(NamedTuple):
    """The process that connected, as it was then."""

    uid: int
    gids: frozenset[int]
    """Its effective and supplementary groups."""
    pid: int
    """For the log only."""


def overflow_ids() -> frozenset[int]:
    """Return the ids that mean "not mapped into this user namespace", 65534 by default."""
    ids = set()
    for path in OVERFLOW_FILES:
        with open(path, encoding="ascii") as file:
            ids.add(int(file.read()))
    return frozenset(ids)


def identify(sock: socket.socket, unmapped: frozenset[int]) -> Peer:
    """Return who connected to *sock*.

    Raises:
        IdentityError: it cannot be told for certain.
    """
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
    except OSError as error:
        raise IdentityError(f"cannot read the peer's credentials: {error.strerror}") from error
    if len(raw) != UCRED.size:
        raise IdentityError(f"the peer's credentials have {len(raw)} bytes, not {UCRED.size}")
    pid, uid, gid = UCRED.unpack(raw)
    if uid in unmapped or uid == NO_ID:
        raise IdentityError("the peer's user is not known in this user namespace")
    return Peer(uid, (_groups(sock) | {gid}) - unmapped, pid)


@cache
def _libc() -> ctypes.CDLL:
    """Return the C library, opened once."""
    return ctypes.CDLL(None, use_errno=True)


def _groups(sock: socket.socket) -> frozenset[int]:
    """Return all supplementary groups of the peer."""
    for capacity in (USUAL_GROUPS, MAX_GROUPS):
        gids = (ctypes.c_uint32 * capacity)()
        size = ctypes.c_uint32(ctypes.sizeof(gids))
        result = _libc().getsockopt(
            sock.fileno(), socket.SOL_SOCKET, SO_PEERGROUPS, gids, ctypes.byref(size)
        )
        if result == 0:
            return frozenset(gids[: size.value // ctypes.sizeof(ctypes.c_uint32)])
        if ctypes.get_errno() != errno.ERANGE:
            break
    name = errno.errorcode.get(ctypes.get_errno(), "an unknown error")
    raise IdentityError(f"cannot read the peer's groups: {name}")
