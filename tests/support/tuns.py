# SPDX-License-Identifier: LGPL-2.1-or-later
"""What anybody can do with /dev/net/tun and with a tap's fd, in the tests' own words.

Nothing here comes from the helper or the client: these are the users whom it serves, and the
strangers whom it keeps out.
"""

import ctypes
import fcntl
import os
import signal
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

from tests.support.children import fork, in_child
from tests.support.people import Person
from tests.support.tap_process import TapProcess, enter_network

T = TypeVar("T")

TUNSETIFF: Final = 0x4004_54CA
TUNSETPERSIST: Final = 0x4004_54CB
TUNSETOWNER: Final = 0x4004_54CC
TUNSETQUEUE: Final = 0x4004_54D9
TUNSETCARRIER: Final = 0x4004_54E2
TUNGETIFF: Final = 0x8004_54D2
IFF_TAP: Final = 0x0002
IFF_MULTI_QUEUE: Final = 0x0100
IFF_ATTACH_QUEUE: Final = 0x0200
IFF_DETACH_QUEUE: Final = 0x0400
IFF_NO_PI: Final = 0x1000
IFF_VNET_HDR: Final = 0x4000
"""linux/if_tun.h."""

SIOCSIFHWADDR: Final = 0x8924
ARPHRD_ETHER: Final = 1
"""linux/sockios.h, linux/if_arp.h."""

IFREQ: Final = struct.Struct("16sH22x")
HWADDR: Final = struct.Struct("16sH6s16x")
"""struct ifreq of linux/if.h with flags, and with an address."""

FLAGS: Final = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
MULTI: Final = FLAGS | IFF_MULTI_QUEUE

VNET_HEADER: Final = bytes(10)
"""struct virtio_net_hdr of linux/virtio_net.h, with nothing to offload."""


def open_queue(name: str, flags: int = MULTI) -> int:
    """Return a queue of the tap *name*, which is made if it is not there; the caller closes it."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.ioctl(fd, TUNSETIFF, IFREQ.pack(name.encode(), flags))
    except BaseException:
        os.close(fd)
        raise
    return fd


def attach_error(name: str, flags: int = MULTI) -> int:
    """Return the errno of attaching to the tap *name*; 0 if it worked."""
    try:
        os.close(open_queue(name, flags))
    except OSError as error:
        return error.errno or -1
    return 0


def name_of(queue: int) -> str:
    """Return the name of the tap that *queue* is of."""
    answer = fcntl.ioctl(queue, TUNGETIFF, IFREQ.pack(b"", 0))
    return bytes(answer[:16]).rstrip(b"\0").decode()


def set_queue(queue: int, flag: int) -> int:
    """Detach or attach *queue*; return the errno or 0."""
    try:
        fcntl.ioctl(queue, TUNSETQUEUE, IFREQ.pack(b"", flag))
    except OSError as error:
        return error.errno or -1
    return 0


def set_carrier(queue: int, *, on: bool) -> None:
    """Switch the carrier of the tap of *queue*, as its holder can without any capability."""
    fcntl.ioctl(queue, TUNSETCARRIER, struct.pack("=i", on))


def set_address(queue: int, address: str) -> None:
    """Give the tap of *queue* another address, as its holder can without any capability."""
    octets = bytes.fromhex(address.replace(":", ""))
    fcntl.ioctl(queue, SIOCSIFHWADDR, HWADDR.pack(b"", ARPHRD_ETHER, octets))


def frame(source: str, destination: str = "ff:ff:ff:ff:ff:ff", payload: bytes = b"") -> bytes:
    """Return a frame with the header that a tap wants in front."""
    addresses = bytes.fromhex((destination + source).replace(":", ""))
    # 0x88b5 is for experiments (IEEE 802).
    return VNET_HEADER + addresses + b"\x88\xb5" + payload.ljust(46, b"\0")


def frames_in(queue: int) -> Iterator[bytes]:
    """Yield what *queue* has to read, without its header."""
    os.set_blocking(queue, False)
    with suppress(BlockingIOError):
        while True:
            yield os.read(queue, 4096)[len(VNET_HEADER) :]


def as_person(helper: TapProcess, person: Person, function: Callable[[], T]) -> T:
    """Return what *function* returns on the host of *helper*, as *person*, with no privilege."""

    def act() -> T:
        become(helper, person)
        return function()

    return in_child(act)


def become(helper: TapProcess, person: Person) -> None:
    """Enter the host of *helper* and be *person*, for good; for a child."""
    _enter_mounts(helper.holder)
    enter_network(helper.holder)
    os.setgroups(person.groups)
    os.setresgid(person.gid, person.gid, person.gid)
    os.setresuid(person.uid, person.uid, person.uid)


def _enter_mounts(pid: int) -> None:
    with Path(f"/proc/{pid}/ns/mnt").open("rb") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0):
            raise OSError(ctypes.get_errno(), f"cannot enter the mounts of process {pid}")


@contextmanager
def children(functions: Sequence[Callable[[], object]]) -> Iterator[list[int]]:
    """Run each of *functions* in a child of its own, and kill them all at the end of the block."""
    pids = []
    try:
        for function in functions:
            pid = fork()
            if pid == 0:
                try:
                    function()
                finally:
                    os._exit(1)
            pids.append(pid)
        yield pids
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def raw_frames(interface: str) -> socket.socket:
    """Return a socket that sees and sends whole frames on *interface*; the caller closes it."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sock.bind((interface, 0))
    return sock
