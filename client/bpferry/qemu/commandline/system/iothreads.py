# SPDX-License-Identifier: LGPL-2.1-or-later
"""Threads for the work of disks. Their ids are ``iothread1`` and so on."""

from collections.abc import Iterator
from itertools import count

from bpferry.domain.model.iothreads import IoThread
from bpferry.domain.model.machine import Machine
from bpferry.qemu.commandline.context import Context, unsupported
from bpferry.qemu.commandline.parts import Option, Part, json_of


def iothreads_of(machine: Machine) -> tuple[IoThread, ...]:
    """Return all threads: those in the list, and as many more as the number says.

    Raises:
        Unsupported: an id is there twice, or there are more in the list than the number says.
    """
    listed = machine.iothread_list
    ids = [thread.id for thread in listed]
    for index, thread in enumerate(listed):
        if thread.id in ids[:index]:
            raise unsupported(f"iothread-list[{index}].id", f"there are two threads {thread.id}")
    free = (number for number in count(1) if number not in ids)
    missing = (machine.iothreads or 0) - len(listed)
    return (*listed, *(IoThread(id=next(free)) for _ in range(missing)))


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
