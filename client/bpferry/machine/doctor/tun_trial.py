# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether this kernel lets a stranger join a multi-queue tap that has no owner (CVE-2026-99281).

No file says so, and backports make the version useless: it has to be tried. A child makes such a
tap where it can hurt nobody, in a user and a network namespace of its own, gives up all of its
capabilities there, and tries to join. The namespaces end with the child, and the tap with them.

    1. unshare  - a new user namespace, in which the child has all capabilities, and in it a new
                  network namespace. An administrator may have turned that off for users.
    2. make     - a tap with one queue of several, and no owner.
    3. shrink   - no capability is left, as with any other user of the host.
    4. join     - EPERM: the kernel has the fix. Success: it does not.

It needs the tun device to be open to this user, as udev has it; in a container it may not be.
"""

import ctypes
import os
import struct
from contextlib import suppress
from enum import Enum
from typing import Final

from bpferry.network import tun
from bpferry_wire.fds import BorrowedFd

CLONE_NEWUSER: Final = 0x1000_0000
CLONE_NEWNET: Final = 0x4000_0000
CAPABILITY_VERSION: Final = 0x2008_0522
"""_LINUX_CAPABILITY_VERSION_3 of linux/capability.h: two structures of three words."""

NODE: Final = "/dev/net/tun"
NAME: Final = "bpferry-trial"


class Joined(Enum):
    """How the attempt ended; the values are the child's exit statuses."""

    YES = 10
    NO = 11
    UNKNOWN = 12
    CLOSED = 13
    """Not tried: this user may not open the tun device."""


def try_to_join() -> Joined:
    """Return whether a stranger could join a tap without an owner."""
    child = os.fork()
    if child == 0:
        # Whatever happens, the child must not go on as a second bpferry.
        status = Joined.UNKNOWN.value
        with suppress(BaseException):
            status = _attempt().value
        os._exit(status)
    _, ended = os.waitpid(child, 0)
    with suppress(ValueError):
        return Joined(os.waitstatus_to_exitcode(ended))
    return Joined.UNKNOWN


def _attempt() -> Joined:
    if not os.access(NODE, os.R_OK | os.W_OK, effective_ids=True):
        return Joined.CLOSED
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        return Joined.UNKNOWN
    flags = tun.queue_flags(2)
    _open_queue(flags)
    header = struct.pack("=Ii", CAPABILITY_VERSION, 0)
    if libc.capset(header, bytes(24)) != 0:
        return Joined.UNKNOWN
    try:
        _open_queue(flags)
    except PermissionError:
        return Joined.NO
    return Joined.YES


def _open_queue(flags: int) -> None:
    """Open one queue of the tap, which stays open until the process ends."""
    fd = os.open(NODE, os.O_RDWR | os.O_CLOEXEC)
    tun.attach(BorrowedFd(fd), NAME, flags)
