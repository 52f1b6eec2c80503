# SPDX-License-Identifier: LGPL-2.1-or-later
"""Open the queues of a tap that exists already, by its name.

Each queue is one open of /dev/net/tun with one TUNSETIFF, by the owner of the tap. TUNSETIFF makes
a tap where there is none, for who may; bpferry never wants that. So the name has to exist before,
and the tap has to say afterwards that it is a persistent one, which a tap just made is not.
"""

import errno
import fcntl
import os
import socket
import struct
from pathlib import Path
from typing import Final

from bpferry.errors import TapError
from bpferry_wire.fds import OwnedFd, OwnedFds

# linux/if_tun.h
TUNSETIFF: Final = 0x4004_54CA
TUNGETIFF: Final = 0x8004_54D2
IFF_TAP: Final = 0x0002
IFF_MULTI_QUEUE: Final = 0x0100
IFF_PERSIST: Final = 0x0800
IFF_NO_PI: Final = 0x1000
IFF_VNET_HDR: Final = 0x4000

QUEUE_FLAGS: Final = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE
"""What each queue is opened with; all queues of a tap have to agree."""

IFREQ: Final = struct.Struct("16sH22x")
"""struct ifreq of linux/if.h with its flags."""

TUN_DEVICE: Final = "/dev/net/tun"

MAKE_HINT: Final = (
    "the administrator makes one with: ip tuntap add dev {name} mode tap multi_queue vnet_hdr "
    "user USER"
)


def open_tap(name: str, queues: int) -> OwnedFds:
    """Return *queues* fds of the tap *name*, which has to be multi-queue, persistent, and ours.

    Raises:
        TapError: with what is in the way.
    """
    _check_exists(name)
    fds = OwnedFds()
    try:
        for queue in range(queues):
            fd = _open_device()
            fds.add(fd.take())
            _attach(fds[queue], name, queue)
            _check_flags(fds[queue], name)
        _check_alone(name, queues)
    except BaseException:
        fds.close()
        raise
    return fds


def _check_exists(name: str) -> None:
    try:
        socket.if_nametoindex(name)
    except OSError as error:
        raise TapError(
            f"cannot open the tap '{name}': there is no such interface",
            MAKE_HINT.format(name=name),
        ) from error


def _open_device() -> OwnedFd:
    try:
        return OwnedFd(os.open(TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as error:
        raise TapError(
            f"cannot open '{TUN_DEVICE}': {error.strerror}",
            "every user needs read and write access to it: the administrator runs "
            "'modprobe tun', and 'chmod 0666 /dev/net/tun' where that is not the default",
        ) from error


def _attach(fd: OwnedFd, name: str, queue: int) -> None:
    request = IFREQ.pack(name.encode(), QUEUE_FLAGS)
    try:
        fcntl.ioctl(fd.borrow(), TUNSETIFF, request)
    except OSError as error:
        cause, hint = _explain(error, name)
        raise TapError(f"cannot open queue {queue} of the tap '{name}': {cause}", hint) from error


def _explain(error: OSError, name: str) -> tuple[str, str]:
    """Return cause and remedy of what TUNSETIFF answered (drivers/net/tun.c)."""
    make = MAKE_HINT.format(name=name)
    match error.errno:
        case errno.EINVAL:
            return "it is no tap, or one without multi-queue", make
        case errno.EPERM:
            return "it belongs to another user", f"see 'ip -details tuntap show'; {make}"
        case errno.EBUSY:
            return "another process has it", "end the VM that uses it, or name another tap"
        case errno.E2BIG:
            return "it has no queue left", "end the VM that uses it, or ask for fewer queues"
    return error.strerror or str(error), ""


def _check_flags(fd: OwnedFd, name: str) -> None:
    """Raise TapError unless the tap says what it was asked to be, and was there before us."""
    answer = fcntl.ioctl(fd.borrow(), TUNGETIFF, IFREQ.pack(b"", 0))
    raw_name, flags = IFREQ.unpack(answer)
    if raw_name.rstrip(b"\0") != name.encode() or flags & QUEUE_FLAGS != QUEUE_FLAGS:
        raise TapError(f"cannot use the tap '{name}': the kernel opened it with other properties")
    if not flags & IFF_PERSIST:
        # It vanished after _check_exists, and we may make taps. Closing the fd unmakes it.
        raise TapError(
            f"cannot use the tap '{name}': it is not persistent", MAKE_HINT.format(name=name)
        )


def _check_alone(name: str, queues: int) -> None:
    """Raise TapError if somebody else has queues of this tap open.

    The kernel allows that to the owner, and would give part of the packets to each. It shows the
    number in sysfs, which may be that of another network namespace; then nothing is said.
    """
    folder = Path("/sys/class/net", name)
    try:
        index = int((folder / "ifindex").read_text(encoding="ascii"))
        shown = len(list((folder / "queues").glob("rx-*")))
        same = index == socket.if_nametoindex(name)
    except (OSError, ValueError):
        return
    if same and shown > queues:
        raise TapError(
            f"cannot use the tap '{name}': another process has {shown - queues} of its queues open",
            "end the VM that uses it, or name another tap",
        )
