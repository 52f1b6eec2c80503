# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMU with the command line that bpferry makes, and nobody who looks after it."""

import socket
import subprocess
import time
from collections.abc import Sequence
from typing import Final

from benchmarks.start import count_lines

OWN_MONITORS: Final = ("-chardev", "-mon")
"""It has one monitor of its own, so bpferry's are left out of its command line."""

WAITS: Final = "-S"
"""Nor does it wait with the guest."""


def without_own(argv: Sequence[str]) -> list[str]:
    """Return the command line *argv* without what is there for bpferry."""
    places = [place for place, word in enumerate(argv) if word in OWN_MONITORS]
    left_out = {place + offset for place in places for offset in (0, 1)}
    return [word for place, word in enumerate(argv) if place not in left_out and word != WAITS]


def start_bare(argv: Sequence[str]) -> int:
    """Start QEMU and end it; return how many ns it took until the guest ran."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        fd = theirs.fileno()
        monitor = ["-chardev", f"socket,id=qmp,fd={fd}", "-mon", "chardev=qmp,mode=control"]
        before = time.perf_counter_ns()
        with subprocess.Popen(
            [*argv, *monitor], pass_fds=[fd], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as child:
            theirs.close()
            ours.sendall(b'{"execute":"qmp_capabilities"}\n{"execute":"query-status"}\n')
            count_lines(ours, 3)
            took_ns = time.perf_counter_ns() - before
            child.kill()
    return took_ns
