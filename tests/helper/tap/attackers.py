# SPDX-License-Identifier: LGPL-2.1-or-later
"""Four users who do nothing but wait for new taps and try to join them."""

import mmap
import os
import re
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Final

from tests.support.people import Person
from tests.support.tap_process import TapProcess
from tests.support.tuns import FLAGS, MULTI, attach_error, become, children

STRANGER: Final = Person(1_700_009, 1_700_009)

OURS: Final = re.compile(rb"bf[tp][0-9a-f]{8}")

RTMGRP_LINK: Final = 1
"""linux/rtnetlink.h: tell me when a link changes."""

COUNTS: Final = struct.Struct("=QQ")
"""Attempts, and those that worked."""


class Attackers:
    """What the attackers have reached so far."""

    def __init__(self, number: int) -> None:
        self.memory = mmap.mmap(-1, mmap.PAGESIZE)
        """Shared with the children, a record each."""
        self._number = number

    @property
    def attempts(self) -> list[int]:
        """How often each tried."""
        return [self._counts(place)[0] for place in range(self._number)]

    @property
    def joined(self) -> int:
        """How often one of them had a queue of a tap."""
        return sum(self._counts(place)[1] for place in range(self._number))

    def _counts(self, place: int) -> tuple[int, ...]:
        return COUNTS.unpack_from(self.memory, place * COUNTS.size)


@contextmanager
def attackers(helper: TapProcess) -> Iterator[Attackers]:
    """Let one attacker for each way to see new names spin on the host of *helper*."""
    result = Attackers(len(WATCHERS))
    functions = [
        partial(_attack, helper, watch, result.memory, place * COUNTS.size)
        for place, watch in enumerate(WATCHERS)
    ]
    with children(functions):
        yield result
    result.memory.close()


def _attack(
    helper: TapProcess, watch: Callable[[], Iterator[bytes]], memory: mmap.mmap, at: int
) -> None:
    become(helper, STRANGER)
    attempts, joined = count(1), 0
    for seen in watch():
        for name in set(OURS.findall(seen)):
            for flags in (MULTI, FLAGS):
                joined += attach_error(name.decode(), flags) == 0
                COUNTS.pack_into(memory, at, next(attempts), joined)


def _events(timeout_s: float | None = None) -> Iterator[bytes]:
    """Yield what the kernel tells of links, the moment that it does.

    One attacker sleeps until then and gets the processor for it; with a timeout of 0 another spins.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.bind((0, RTMGRP_LINK))
        sock.settimeout(timeout_s)
        while True:
            try:
                yield sock.recv(65_536)
            except OSError:
                continue


def _kernel_list() -> Iterator[bytes]:
    while True:
        yield " ".join(name for _, name in socket.if_nameindex()).encode()


def _folder() -> Iterator[bytes]:
    while True:
        yield " ".join(os.listdir("/sys/class/net")).encode()  # noqa: PTH208 - the quickest way


WATCHERS: Final[tuple[Callable[[], Iterator[bytes]], ...]] = (
    _events,
    partial(_events, 0),
    _kernel_list,
    _folder,
)
