# SPDX-License-Identifier: LGPL-2.1-or-later
"""Threads for the work of disks. Their ids are ``iothread1`` and so on."""

from collections.abc import Iterator

from bpferry.commandline.context import Context
from bpferry.commandline.parts import Found, Option, json_of
from bpferry.commandline.threads import iothreads_of
from bpferry.domain.names import before, listed


def parts(context: Context) -> Iterator[Found]:
    """Yield the threads."""
    for device in listed(context.machine.iothread_list, "iothread-list"):
        if any(one.id == device.value.id for one in before(device, context.machine.iothread_list)):
            yield device.mistake(
                "id",
                f"there are two threads {device.value.id}",
                "give each thread an id of its own",
            )
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
