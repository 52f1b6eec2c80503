# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the queue of a tap is, according to the kernel.

The ioctl works wherever the tap is: its network namespace need not be ours. It cannot tell whether
packets come without the tun driver's own header, since IFF_NO_PI and IFF_NOFILTER, by which the
kernel says that no filter is attached, are the same bit (linux/if_tun.h).
"""

import fcntl
import os
import struct
from typing import Final

from bpferry_wire.fds import BorrowedFd
from bpferry_wire.frozen import Frozen

# linux/if_tun.h
TUNSETIFF: Final = 0x4004_54CA
TUNGETIFF: Final = 0x8004_54D2
IFF_TUN: Final = 0x0001
IFF_TAP: Final = 0x0002
IFF_MULTI_QUEUE: Final = 0x0100
IFF_DETACH_QUEUE: Final = 0x0400
IFF_PERSIST: Final = 0x0800
IFF_NO_PI: Final = 0x1000
IFF_VNET_HDR: Final = 0x4000

IFREQ: Final = struct.Struct("16sH22x")
"""struct ifreq of linux/if.h with its flags."""

MEANINGS: Final = {
    IFF_TUN: "a tun device, not a tap",
    IFF_TAP: "a tap",
    IFF_MULTI_QUEUE: "multi-queue",
    IFF_DETACH_QUEUE: "a queue without packets",
    IFF_PERSIST: "persistent",
    IFF_NO_PI: "without packet information",
    IFF_VNET_HDR: "with virtio's header",
}
"""The flags that make a difference to us."""


class Queue(Frozen):
    """One queue of a tap."""

    interface: str
    flags: int
    """Those of ``MEANINGS``."""


def queue_flags(queues: int) -> int:
    """Return the flags with which QEMU can use each queue of a tap with *queues* queues."""
    several = IFF_MULTI_QUEUE if queues > 1 else 0
    return IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | several


def attach(fd: BorrowedFd, interface: str, flags: int) -> None:
    """Make *fd*, which is open on /dev/net/tun, a queue of *interface*.

    If there is no such interface, the kernel makes one, provided that the caller may.

    Raises:
        OSError: as TUNSETIFF does (drivers/net/tun.c, tun_set_iff).
    """
    fcntl.ioctl(fd, TUNSETIFF, IFREQ.pack(interface.encode(), flags))


def identify(fd: BorrowedFd) -> Queue:
    """Return what *fd* is.

    Raises:
        OSError: ENOTTY if it is not a file of tun, EBADFD if it is not attached to an interface.
    """
    name, flags = IFREQ.unpack(fcntl.ioctl(fd, TUNGETIFF, IFREQ.pack(b"", 0)))
    known = flags & sum(MEANINGS)
    return Queue(name.rstrip(b"\0").decode(errors="backslashreplace"), known)


def describe_difference(found: int, wanted: int) -> str:
    """Return in words what is between the flags *found* and those *wanted*."""
    lacking = [f"not {word}" for flag, word in MEANINGS.items() if wanted & ~found & flag]
    return ", ".join([word for flag, word in MEANINGS.items() if found & ~wanted & flag] + lacking)


def is_writable(fd: BorrowedFd) -> bool:
    """Say whether packets can be both read and written."""
    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR


def are_distinct(fds: list[BorrowedFd]) -> bool:
    """Say whether each of *fds* is an open file of its own; makes all of them non-blocking.

    Status flags belong to the open file. So a second fd of the same one shows what the first was
    just given. QEMU makes its queues non-blocking anyway (net_init_tap_one, net/tap.c).
    """
    for fd in fds:
        os.set_blocking(fd, True)
    for fd in fds:
        if not os.get_blocking(fd):
            return False
        os.set_blocking(fd, False)
    return True
