# SPDX-License-Identifier: LGPL-2.1-or-later
"""Threads for the work of disks. Their ids are ``iothread1`` and so on."""

from collections.abc import Iterator

from bpferry.commandline.context import Context
from bpferry.commandline.parts import Option, Part, json_of
from bpferry.commandline.threads import iothreads_of


def parts(context: Context) -> Iterator[Part]:
    """Yield the threads."""
    for thread in iothreads_of(context.machine):
        yield Option(
            "-object",
            json_of(
                {
                    "qom-type": "iothread",
                    "id": f"iothread{thread.id}",
                    "thread-pool-min": thread.pool_min,
                    "thread-pool-max": thread.pool_max,
                    "poll-max-ns": thread.poll_max,
                    "poll-grow": thread.poll_grow,
                    "poll-shrink": thread.poll_shrink,
                }
            ),
        )
    pool = context.machine.main_loop
    if pool is not None:
        yield Option(
            "-object",
            json_of(
                {
                    "qom-type": "main-loop",
                    "id": "main-loop",
                    "thread-pool-min": pool.pool_min,
                    "thread-pool-max": pool.pool_max,
                }
            ),
        )
