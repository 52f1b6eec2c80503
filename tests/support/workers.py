# SPDX-License-Identifier: LGPL-2.1-or-later
"""The helper's worker threads, when a test takes the part of its loop."""

import os
import threading
import time
from typing import Final

from bpferry_helper.work import WORKERS, Job, Workers

HOLDER: Final = 4_000_000
"""The uid, and the connection, of jobs that hold workers up."""


def order_of(workers: Workers, count: int) -> list[int]:
    """Wait for *count* results; return their connections, in order, without those of HOLDER."""
    order: list[int] = []
    while len(order) < count:
        order += [done.connection for done in workers.results()]
        time.sleep(0.002)
    return [connection for connection in order if connection != HOLDER]


def hold_up(
    workers: Workers,
    gate: threading.Event,
    count: int = WORKERS,
    *,
    pace: tuple[int, int] | None = None,
) -> None:
    """Let *count* of the workers wait for *gate*; return when they do, so that jobs queue up."""
    begun = threading.Barrier(count + 1)

    def wait() -> None:
        begun.wait()
        gate.wait()

    for _ in range(count):
        workers.submit(Job(HOLDER, HOLDER, wait, pace))
    begun.wait()


def end(workers: Workers) -> None:
    """Hold all of *workers* up for ever, then close the eventfd.

    They write into that after each job, when its result can be had already. By then the number may
    be that of another test's socket. No other job may be waiting for anything.
    """
    hold_up(workers, threading.Event())
    os.close(workers.wake_fd)
