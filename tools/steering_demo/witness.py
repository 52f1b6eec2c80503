# SPDX-License-Identifier: LGPL-2.1-or-later
"""The live key and table, read through the fds that QEMU itself holds.

Nobody's word is taken for them: root copies QEMU's own fds out of its process (pidfd_getfd(2)), and
reads the memory that the program in the kernel uses for each packet.

QEMU can also steer in user space, with the same key and table and the same maps filled. So the
kernel is asked how often it ran the program: it counts that as long as somebody holds an fd from
BPF_ENABLE_STATS (linux/bpf.h).
"""

import ctypes
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bpferry.steering.maps import Steering, SteeringMaps
from bpferry_wire.fds import OwnedFd, OwnedFds
from bpferry_wire.objects import RSS, MapShape

SYS_PIDFD_GETFD: Final = 438
"""The same number on every architecture (asm-generic/unistd.h)."""

BPF_STATS_RUN_TIME: Final = 0
"""linux/bpf.h, enum bpf_stats_type."""

PATIENCE_S: Final = 20.0
POLL_S: Final = 0.05


class WitnessError(Exception):
    """QEMU does not hold the expected fds, or the maps never had the expected content."""


@contextmanager
def live_maps(qemu_pid: int) -> Iterator[SteeringMaps]:
    """Map the three maps that the process *qemu_pid* holds."""
    with OwnedFd(os.pidfd_open(qemu_pid)) as pidfd, OwnedFds() as fds:
        for shape in RSS.maps:
            fds.add(_get_fd(pidfd, _number_of(qemu_pid, shape)))
        with SteeringMaps(*fds.borrow()) as maps:
            yield maps


def _number_of(pid: int, shape: MapShape) -> int:
    """Return the fd of *pid* that is a map with this *shape*; the three shapes differ."""
    wanted = {
        "map_type": shape.type,
        "key_size": shape.key_size,
        "value_size": shape.value_size,
        "max_entries": shape.entries,
    }
    return _find_fd(pid, wanted)[0]


def _find_fd(pid: int, wanted: dict[str, int]) -> tuple[int, dict[str, int]]:
    """Return the fd of *pid* with *wanted* in its fdinfo, and all numbers in its fdinfo."""
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            text = info.read_text(encoding="ascii")
        except FileNotFoundError:
            continue
        lines = re.findall(r"^(\w+):\t(\d+)$", text, re.MULTILINE)
        found = {name: int(value) for name, value in lines}
        if wanted.items() <= found.items():
            return int(info.name), found
    raise WitnessError(f"QEMU (pid {pid}) holds no fd with {wanted}")


def _get_fd(pidfd: OwnedFd, number: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(SYS_PIDFD_GETFD, pidfd.borrow(), number, 0)
    if fd < 0:
        raise WitnessError(f"cannot look at QEMU's fd {number}: {os.strerror(ctypes.get_errno())}")
    return int(fd)


@contextmanager
def counted_runs() -> Iterator[None]:
    """Let the kernel count how often it runs each of the host's BPF programs."""
    libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
    fd = libbpf.bpf_enable_stats(BPF_STATS_RUN_TIME)
    if fd < 0:
        raise WitnessError(f"the kernel does not count runs: {os.strerror(ctypes.get_errno())}")
    with OwnedFd(fd):
        yield


def program_runs(qemu_pid: int) -> int:
    """Return how often the kernel has run the program that *qemu_pid* holds, while counting."""
    return _find_fd(qemu_pid, {"prog_type": RSS.programs[0].type})[1]["run_cnt"]


def wait_for(maps: SteeringMaps, what: str, true_of: Callable[[Steering], bool]) -> Steering:
    """Wait until *true_of* holds for the steering and return that; *what* says it in words.

    Raises:
        WitnessError: it did not become true.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not true_of(steering := maps.read()):
        if time.monotonic() > deadline:
            raise WitnessError(f"{what}: the kernel's maps still say {steering}")
        time.sleep(POLL_S)
    return steering
