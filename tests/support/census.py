# SPDX-License-Identifier: LGPL-2.1-or-later
"""Counts what is open and what is alive, from outside of the helper.

Totals of the host are useless if others load BPF programs at the same time. So the fds are
those of one process, and BPF objects are looked at by the ids that somebody was granted.
"""

import ctypes
import os
import re
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

GIVE_UP_S = 30.0
"""The kernel frees the maps of a program from a work queue, some milliseconds late; and a process
may not get a processor for seconds. Only a test that fails waits for so long."""


class Held(NamedTuple):
    """One BPF program or map that a process has open."""

    kind: str
    """``prog`` or ``map``."""
    id: int


def fd_targets(pid: int | str) -> Counter[str]:
    """Return what the open fds of *pid* point to, and how often."""
    targets: Counter[str] = Counter()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(link.readlink())
        except FileNotFoundError:
            # The fd that listed the folder, or one that was closed meanwhile.
            continue
        if target != f"/proc/{os.getpid()}/fd":
            targets[target] += 1
    return targets


def held_by(pid: int | str) -> frozenset[Held]:
    """Return the BPF programs and maps that *pid* has open."""
    held = set()
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            held |= held_through(info.read_text())
        except FileNotFoundError:
            continue
    return frozenset(held)


def held_through(fdinfo: str) -> set[Held]:
    """Return the program or map of one fdinfo file."""
    found = re.findall(r"^(prog|map)_id:\s*(\d+)$", fdinfo, re.MULTILINE)
    return {Held(kind, int(number)) for kind, number in found}


def held_through_fds(fds: Iterable[int]) -> frozenset[Held]:
    """Return the programs and maps behind *fds* of this process."""
    held: set[Held] = set()
    for fd in fds:
        held |= held_through(Path(f"/proc/self/fdinfo/{fd}").read_text())
    return frozenset(held)


@cache
def _libbpf() -> ctypes.CDLL:
    return ctypes.CDLL("libbpf.so.1", use_errno=True)


def is_alive(held: Held) -> bool:
    """Say whether the kernel still has *held*. Needs root."""
    fd = getattr(_libbpf(), f"bpf_{held.kind}_get_fd_by_id")(held.id)
    if fd < 0:
        return False
    os.close(fd)
    return True


def alive_among(wanted: Iterable[Held]) -> set[Held]:
    """Return those of *wanted* that the kernel still has."""
    return {held for held in wanted if is_alive(held)}


def ids_on_host(kind: str) -> frozenset[int]:
    """Return the ids of every ``prog`` or ``map`` of this host. Needs root."""
    get_next = getattr(_libbpf(), f"bpf_{kind}_get_next_id")
    ids: set[int] = set()
    number = ctypes.c_uint32(0)
    while get_next(number, ctypes.byref(number)) == 0:
        ids.add(number.value)
    return frozenset(ids)


def wait_until(
    condition: Callable[[], bool], patience_s: float = GIVE_UP_S, pause_s: float = 0.005
) -> bool:
    """Wait until *condition* holds, and look again after each pause; return whether it does."""
    end = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(pause_s)
    return True


@contextmanager
def fds_allowed(count: int) -> Iterator[None]:
    """Let this process have *count* fds open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), max(hard, count)))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
