# SPDX-License-Identifier: LGPL-2.1-or-later
"""Let vhost move a frame out of a macvtap and one into it, as QEMU would for a card with its fds.

    macvtap.py USER INTERFACE PEER

PEER is the other end of the cable of the host's card; root listens there. Everything else is opened
as USER. Prints a JSON object: "came_in" and "went_out", the frames as they arrived.
"""

import ctypes
import fcntl
import json
import mmap
import os
import pwd
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from bpferry.network.macvtap import find_macvtap
from bpferry.network.vhost import open_vhost

PROTOCOL: Final = b"\x88\xb5"
"""Of experiments (IEEE 802)."""
HEADER: Final = bytes(10)
"""struct virtio_net_hdr of linux/virtio_net.h, with nothing to offload."""
PATIENCE_S: Final = 30.0

MEMORY_BYTES: Final = 1 << 16
BUFFER_BYTES: Final = 4096
SIZE: Final = 8
"""Entries of a ring; one is used."""
AVAILABLE, USED, BUFFER, BYTES = 4096, 8192, 12288, 32768
"""Where the parts of a ring are, its descriptors first, and how much it takes in all."""
WRITABLE: Final = 2
"""VRING_DESC_F_WRITE of linux/virtio_ring.h."""

SET_OWNER: Final = 0xAF01
SET_FEATURES: Final = 0x4008_AF00
SET_MEMORY: Final = 0x4008_AF03
SET_SIZE: Final = 0x4008_AF10
SET_ADDRESS: Final = 0x4028_AF11
SET_BASE: Final = 0x4008_AF12
SET_KICK: Final = 0x4008_AF20
SET_CALL: Final = 0x4008_AF21
SET_BACKEND: Final = 0x4008_AF30
"""linux/vhost.h."""


class Ring(NamedTuple):
    """A ring of vhost, in memory that it shares with us."""

    memory: mmap.mmap
    start: int
    kick: int

    def offer(self, flags: int, frame: bytes = bytes(BUFFER_BYTES)) -> None:
        """Put a buffer with *frame* into the ring."""
        base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory)) + self.start
        self.memory[self.start + BUFFER : self.start + BUFFER + len(frame)] = frame
        entry = (base + BUFFER, len(frame), flags, 0)
        struct.pack_into("QIHH", self.memory, self.start, *entry)
        struct.pack_into("HH", self.memory, self.start + AVAILABLE, 0, 1)
        os.eventfd_write(self.kick, 1)

    def used(self) -> bytes | None:
        """Return what is in the buffer, if vhost has used it."""
        _, count, _, length = struct.unpack_from("HHII", self.memory, self.start + USED)
        at = self.start + BUFFER + len(HEADER)
        return self.memory[at : at + length - len(HEADER)] if count else None


def set_up(vhost: int, tap: int) -> tuple[Ring, Ring]:
    """Make *tap* the back end of *vhost*; return the rings of what comes in and what goes out."""
    memory = mmap.mmap(-1, 2 * BYTES)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fcntl.ioctl(vhost, SET_OWNER)
    fcntl.ioctl(vhost, SET_FEATURES, struct.pack("Q", 0))
    fcntl.ioctl(vhost, SET_MEMORY, struct.pack("II4Q", 1, 0, base, MEMORY_BYTES, base, 0))
    rings = []
    for number in (0, 1):
        ring = Ring(memory, number * BYTES, os.eventfd(0))
        at = base + ring.start
        fcntl.ioctl(vhost, SET_SIZE, struct.pack("II", number, SIZE))
        fcntl.ioctl(vhost, SET_BASE, struct.pack("II", number, 0))
        places = (number, 0, at, at + USED, at + AVAILABLE, 0)
        fcntl.ioctl(vhost, SET_ADDRESS, struct.pack("IIQQQQ", *places))
        fcntl.ioctl(vhost, SET_KICK, struct.pack("Ii", number, ring.kick))
        fcntl.ioctl(vhost, SET_CALL, struct.pack("Ii", number, os.eventfd(0)))
        rings.append(ring)
    for number in (0, 1):
        fcntl.ioctl(vhost, SET_BACKEND, struct.pack("Ii", number, tap))
    return rings[0], rings[1]


def listen(peer: str) -> socket.socket:
    """Return a socket for frames of the experiment at the other end of the cable."""
    cable = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
    cable.bind((peer, 0x88B5))
    cable.settimeout(0)
    return cable


def heard(cable: socket.socket) -> bytes | None:
    """Return a frame, if one has come."""
    try:
        return cable.recv(BUFFER_BYTES)
    except BlockingIOError:
        return None


def become(name: str) -> None:
    """Be this user from now on, with their groups and without a capability."""
    user = pwd.getpwnam(name)
    os.initgroups(name, user.pw_gid)
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)


def wait_for(look: Callable[[], bytes | None]) -> str:
    """Return what *look* finds, as text; nothing, if it takes too long."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if found := look():
            return found.hex(":")
        time.sleep(0.01)
    return ""


def main(user: str, interface: str, peer: str) -> None:
    """Do it, and print what arrived."""
    with listen(peer) as cable:
        become(user)
        tap = find_macvtap(interface)
        assert tap is not None
        card, other = bytes.fromhex(tap.address.replace(":", "")), bytes((2, 0, 0, 0, 0, 1))
        # One queue: the kernel chooses one for each frame, and there is one vhost.
        with tap.open(1, tap.address) as fds, open_vhost("/dev/vhost-net", 1) as vhost:
            incoming, outgoing = set_up(vhost[0].borrow(), fds[0].borrow())
            incoming.offer(WRITABLE)
            cable.send(card + other + PROTOCOL + b"to the guest".ljust(60))
            outgoing.offer(0, HEADER + other + card + PROTOCOL + b"from the guest".ljust(60))
            came_in = wait_for(incoming.used)
            went_out = wait_for(lambda: heard(cable))
    print(json.dumps({"came_in": came_in, "went_out": went_out}))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
