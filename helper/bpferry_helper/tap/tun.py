# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ioctls of /dev/net/tun (linux/if_tun.h), with fixed flags: clients cannot choose any."""

import fcntl
import os
import struct
from typing import Final

from bpferry_helper.errors import RequestError
from bpferry_wire.errors import Code
from bpferry_wire.fds import BorrowedFd, OwnedFd, OwnedFds

TUN_DEVICE: Final = "/dev/net/tun"

# linux/if_tun.h
TUNSETIFF: Final = 0x4004_54CA
TUNSETPERSIST: Final = 0x4004_54CB
TUNSETOWNER: Final = 0x4004_54CC
TUNSETIFINDEX: Final = 0x4004_54DA
IFF_TAP: Final = 0x0002
IFF_MULTI_QUEUE: Final = 0x0100
IFF_NO_PI: Final = 0x1000
IFF_VNET_HDR: Final = 0x4000
IFF_TUN_EXCL: Final = 0x8000

FLAGS: Final = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
"""What QEMU expects of a tap (net/tap-linux.c): whole frames, each with a virtio-net header."""

INDEX: Final = struct.Struct("=I")
"""What TUNSETIFINDEX points to."""

IFREQ: Final = struct.Struct("16sH22x")
"""struct ifreq of linux/if.h with its flags."""


def make_queues(name: str, index: int, count: int, owner: int) -> OwnedFds:
    """Make the tap *name* of uid *owner* in our own namespace, and return *count* queues of it.

    The tap goes away with its last fd. As it has an owner from the start, nobody else can ever add
    a queue to it; without one, anybody could (CVE-2026-99281).

    Raises:
        RequestError: with what the kernel said.
    """
    flags = FLAGS | (IFF_MULTI_QUEUE if count > 1 else 0)
    fds = OwnedFds()
    try:
        for queue in range(count):
            # Exclusive: a name that is in use is an error, rather than somebody else's tap.
            first = queue == 0
            exclusive = IFF_TUN_EXCL if first else 0
            fds.add(_open_queue(name, flags | exclusive, index if first else 0).take())
            if queue == 0:
                set_owner(fds[0].borrow(), owner)
    except BaseException:
        fds.close()
        raise
    return fds


def set_owner(queue: BorrowedFd, owner: int) -> None:
    """Let uid *owner* open more queues of the tap of *queue*, and nobody else.

    Raises:
        RequestError: with what the kernel said.
    """
    _set(queue, TUNSETOWNER, owner, "give it its owner")


def make_persistent(queue: BorrowedFd) -> None:
    """Let the tap of *queue* stay when its last fd is closed.

    Raises:
        RequestError: with what the kernel said.
    """
    _set(queue, TUNSETPERSIST, 1, "make it stay")


def _open_queue(name: str, flags: int, index: int) -> OwnedFd:
    try:
        fd = OwnedFd(os.open(TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise RequestError(
            Code.FAILED,
            f"cannot open '{TUN_DEVICE}': {error.strerror}",
            "ask the administrator to run: modprobe tun",
        ) from error
    try:
        if index:
            fcntl.ioctl(fd.borrow(), TUNSETIFINDEX, INDEX.pack(index))
        fcntl.ioctl(fd.borrow(), TUNSETIFF, IFREQ.pack(name.encode(), flags))
    except OSError as error:
        fd.close()
        message = f"cannot make the tap '{name}': {error.strerror}"
        raise RequestError(Code.FAILED, message) from error
    return fd


def _set(queue: BorrowedFd, request: int, value: int, step: str) -> None:
    try:
        fcntl.ioctl(queue, request, value)
    except OSError as error:
        message = f"cannot make a tap and {step}: {error.strerror}"
        raise RequestError(Code.FAILED, message) from error
