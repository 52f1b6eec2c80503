# SPDX-License-Identifier: LGPL-2.1-or-later
"""Taps for a helper of the tests' own: good ones, and those that are not what they seem.

Each maker works in the network namespace of its own thread, which the helper's thread enters.
"""

import ctypes
import fcntl
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from bpferry.network import tun
from bpferry_wire.fds import OwnedFds

TUNSETPERSIST = 0x4004_54CB
TUNSETQUEUE = 0x4004_54D9
CLONE_NEWNET = 0x4000_0000
"""linux/if_tun.h, linux/sched.h."""

NAME = "bft00000001"
Maker = Callable[[], OwnedFds]


def enter(namespace: str) -> None:
    """Let this thread, and no other, be in *namespace* from now on."""
    with Path("/run/netns", namespace).open("rb") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the namespace '{namespace}'")


def open_queue(name: str, flags: int, access: int = os.O_RDWR) -> int:
    """Open one more queue of *name*, which the first one makes; the caller closes it."""
    fd = os.open("/dev/net/tun", access | os.O_CLOEXEC)
    fcntl.ioctl(fd, tun.TUNSETIFF, tun.IFREQ.pack(name.encode(), flags))
    return fd


def made(
    namespace: str,
    queues: int = 4,
    *,
    name: str = NAME,
    flags: int | None = None,
    bridge: str = "",
    access: int = os.O_RDWR,
    change: Callable[[list[int]], None] = lambda _: None,
) -> Maker:
    """Return what makes a tap in *namespace*, on *bridge*, and does *change* to its fds."""

    def make() -> OwnedFds:
        enter(namespace)
        wanted = tun.queue_flags(queues) if flags is None else flags
        fds = [open_queue(name, wanted, access) for _ in range(queues)]
        if bridge:
            link = ["ip", "link", "set", "dev", name, "master", bridge, "up"]
            subprocess.run(link, check=True)
        change(fds)
        return OwnedFds(fds)

    return make


def null_at(place: int) -> Callable[[list[int]], None]:
    """Return what puts /dev/null at *place*."""
    return _opened_at(place, "/dev/null")


def unattached_at(place: int) -> Callable[[list[int]], None]:
    """Return what puts a queue of nothing at *place*."""
    return _opened_at(place, "/dev/net/tun")


def _opened_at(place: int, path: str) -> Callable[[list[int]], None]:
    def change(fds: list[int]) -> None:
        os.close(fds[place])
        fds[place] = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    return change


def other_at(place: int) -> Callable[[list[int]], None]:
    """Return what puts a queue of another tap at *place*."""

    def change(fds: list[int]) -> None:
        os.close(fds[place])
        fds[place] = open_queue("other", tun.queue_flags(2))

    return change


def twice(fds: list[int]) -> None:
    """Put the first queue in the place of the last as well."""
    os.close(fds[-1])
    fds[-1] = os.dup(fds[0])


def persistent(fds: list[int]) -> None:
    """Let the tap stay when nobody has it."""
    fcntl.ioctl(fds[0], TUNSETPERSIST, 1)


def detached(fds: list[int]) -> None:
    """Take the last queue out of those that get packets."""
    fcntl.ioctl(fds[-1], TUNSETQUEUE, tun.IFREQ.pack(b"", tun.IFF_DETACH_QUEUE))


def one_less(fds: list[int]) -> None:
    """Lose the last one."""
    os.close(fds.pop())


def one_more(fds: list[int]) -> None:
    """Have one more."""
    fds.append(open_queue(NAME, tun.queue_flags(2)))


def in_namespace(namespace: str) -> list[str]:
    """Return the taps that there are in *namespace*."""
    show = ["ip", "-netns", namespace, "-oneline", "link", "show", "type", "tun"]
    lines = subprocess.run(show, check=True, capture_output=True, text=True).stdout.splitlines()
    return [line.split(":")[1].strip() for line in lines]
