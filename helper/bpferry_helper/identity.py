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
from bisect import bisect_left
from functools import cache
from typing import Final, NamedTuple, Union

from bpferry_helper.errors import HelperError
from bpferry_wire.limits import MAX_GIDS_SHOWN

SO_PEERGROUPS: Final = 59
"""asm-generic/socket.h. Python has no name for it, and its getsockopt() returns at most 1,024
bytes, 256 groups (python/cpython#112740). A process may have 65,536 (NGROUPS_MAX of
linux/limits.h)."""

PYTHONS_MOST_BYTES: Final = 1024

MAX_GROUPS: Final = 65_536

FEW_GROUPS: Final = 1024
"""As many are copied within 0.2 ms. Users of large directories have some hundred."""

GID_BYTES: Final = ctypes.sizeof(ctypes.c_uint32)

NO_ROOM: Final = (ctypes.c_uint32 * 0)()
"""To ask how many groups there are, which is quick for any number."""

UCRED: Final = struct.Struct("iII")
"""struct ucred of unix(7): pid, uid, gid. The ids are unsigned: as signed numbers, uids above 2^31
would be negative (CVE-2018-19788)."""

OVERFLOW_FILES: Final = ("/proc/sys/kernel/overflowuid", "/proc/sys/kernel/overflowgid")

NO_ID: Final = 0xFFFF_FFFF
"""(uid_t) -1 of chown(2): not a user."""

Gids = Union["ctypes.Array[ctypes.c_uint32]", "memoryview[int]"]
"""Groups as the kernel gives them: 32 bits each, sorted."""


class IdentityError(HelperError):
    """The kernel could not tell who the peer is."""


class Credentials(NamedTuple):
    """The process that connected, as it was then."""

    uid: int
    gid: int
    pid: int


class Peer(NamedTuple):
    """The account that the requests on a connection count for."""

    uid: int
    """The account: the process's own uid, or the owner of that subordinate uid."""
    gids: frozenset[int]
    """Those of its groups that can matter to a decision, including the effective one."""
    pid: int
    """For the log only."""
    shown: tuple[int, ...] = ()
    """The first MAX_GIDS_SHOWN of all its groups, for ``hello``."""
    group_count: int = 0
    """How many groups it has in total."""
    name: str = ""
    """Of the account, if known; for people."""
    vm: str = ""
    """What the request that is being served calls its VM; the peer's claim, for people."""

    @property
    def who(self) -> str:
        """The account in words: "uid 1001 (alice)"."""
        return f"uid {self.uid} ({self.name})" if self.name else f"uid {self.uid}"

    @property
    def who_asks(self) -> str:
        """The same with the process, and the VM if it is known."""
        vm = f", VM '{self.vm}'" if self.vm else ""
        return f"{self.who} (pid {self.pid}{vm})"


def overflow_ids() -> frozenset[int]:
    """Return the ids that mean "not mapped into this user namespace", 65534 by default."""
    ids = set()
    for path in OVERFLOW_FILES:
        with open(path, encoding="ascii") as file:
            ids.add(int(file.read()))
    return frozenset(ids)


def identify(sock: socket.socket, unmapped: frozenset[int]) -> Credentials:
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
    return Credentials(uid, gid, pid)


class GroupReader:
    """Reads the groups of peers.

    A process may have 65,536 groups. The lists of all connections would be gigabytes, so only the
    groups that the policy names are kept, and some to show. Copying such a list takes the kernel up
    to 10 ms, so a worker should read long ones, not the loop.
    """

    def __init__(self, unmapped: frozenset[int]) -> None:
        """Ignore the groups in *unmapped*."""
        self._unmapped = unmapped
        self._room = (ctypes.c_uint32 * FEW_GROUPS)()

    def peer(self, sock: socket.socket, who: Credentials, uid: int, named: frozenset[int]) -> Peer:
        """Return the peer at the other end of *sock*, with those of its groups that are *named*.

        Raises:
            IdentityError: they cannot be read.
        """
        gids = (ctypes.c_uint32 * min(_read_groups(sock, NO_ROOM), MAX_GROUPS))()
        count = _read_groups(sock, gids)
        if count > len(gids):
            raise IdentityError(f"the peer has more than {MAX_GROUPS} groups")
        return self._peer(gids, count, who, uid, named)

    def peer_with_few(
        self, sock: socket.socket, who: Credentials, uid: int, named: frozenset[int]
    ) -> Peer | None:
        """Return the same, or None if it has more than FEW_GROUPS groups. Only for the loop.

        Raises:
            IdentityError: they cannot be read.
        """
        try:
            raw = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, PYTHONS_MOST_BYTES)
        except OSError:
            # ERANGE, or what the next call says.
            gids, count = self._room, _read_groups(sock, self._room)
            return None if count > len(gids) else self._peer(gids, count, who, uid, named)
        return self._peer(memoryview(raw).cast("I"), len(raw) // GID_BYTES, who, uid, named)

    def _peer(
        self, gids: "Gids", count: int, who: Credentials, uid: int, named: frozenset[int]
    ) -> Peer:
        mine = frozenset(gid for gid in named if gid == who.gid or _has(gids, count, gid))
        first = {who.gid, *gids[: min(count, MAX_GIDS_SHOWN)]} - self._unmapped
        shown = tuple(sorted(first)[:MAX_GIDS_SHOWN])
        others = count - _has(gids, count, who.gid)
        return Peer(uid, mine - self._unmapped, who.pid, shown, others + 1)


def _has(gids: "Gids", count: int, gid: int) -> bool:
    """Return whether *gid* is among the first *count* of *gids*, which the kernel keeps sorted.

    The kernel searches them in the same way (groups_search, kernel/groups.c). If a user namespace
    maps them into another order, one may not be found, which can only refuse.
    """
    at = bisect_left(gids, gid, 0, count)
    return at < count and gids[at] == gid


def _read_groups(sock: socket.socket, gids: "ctypes.Array[ctypes.c_uint32]") -> int:
    """Read the supplementary groups of the peer into *gids*; return how many there are.

    If they do not fit, the kernel writes none and says how many (sk_getsockopt, net/core/sock.c).
    """
    size = ctypes.c_uint32(ctypes.sizeof(gids))
    if _get_groups(sock, gids, size) != 0 and ctypes.get_errno() != errno.ERANGE:
        raise _unreadable()
    return size.value // GID_BYTES


def _get_groups(
    sock: socket.socket, room: "ctypes.Array[ctypes.c_uint32]", size: ctypes.c_uint32
) -> int:
    result: int = libc().getsockopt(
        sock.fileno(), socket.SOL_SOCKET, SO_PEERGROUPS, room, ctypes.byref(size)
    )
    return result


def _unreadable() -> IdentityError:
    name = errno.errorcode.get(ctypes.get_errno(), "an unknown error")
    return IdentityError(f"cannot read the peer's groups: {name}")


@cache
def libc() -> ctypes.CDLL:
    """Return the C library, opened once: each opening makes a class, which only the gc frees."""
    return ctypes.CDLL(None, use_errno=True)
