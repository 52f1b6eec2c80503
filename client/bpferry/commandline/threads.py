# SPDX-License-Identifier: LGPL-2.1-or-later
"""The I/O threads that a VM has, and which of them works for a disk or a SCSI controller.

A thread works for the whole device, or for some of its queues.
"""

from itertools import count
from typing import TYPE_CHECKING

from bpferry.commandline.context import Context
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import Named

if TYPE_CHECKING:
    from bpferry.domain.model.controllers import Controller
    from bpferry.domain.model.disks import Disk
    from bpferry.domain.model.iothreads import IoThread


def iothreads_of(machine: Machine) -> "tuple[IoThread, ...]":
    """Return all threads: those in the list, and as many more as the number says."""
    threads = machine.iothread_list
    if not machine.iothreads:
        return threads
    from bpferry.domain.model.iothreads import IoThread  # noqa: PLC0415 - few VMs have any

    ids = [thread.id for thread in threads]
    free = (number for number in count(1) if number not in ids)
    missing = machine.iothreads - len(threads)
    return (*threads, *(IoThread(id=next(free)) for _ in range(missing)))


def thread_of(device: "Named[Disk | Controller]", context: Context) -> str | None:
    """Return the id of the one thread of *device*, if it has one.

    Raises:
        Unsupported: the VM has no such thread.
    """
    if device.value.iothread is None:
        return None
    if device.value.iothreads:
        raise device.mistake(
            "iothread",
            "the queues already have threads",
            "leave out the thread, or those of the queues",
        )
    return _known(device, "iothread", device.value.iothread, context)


def queue_mapping(
    device: "Named[Disk | Controller]", context: Context
) -> list[dict[str, object]] | None:
    """Return which thread serves which queue (qapi/virtio.json, IOThreadVirtQueueMapping).

    Raises:
        Unsupported: the VM has no such thread.
    """
    mapping: list[dict[str, object]] = []
    for one in device.parts("iothreads", device.value.iothreads):
        thread, queues = _known(one, "id", one.value.id, context), one.value.queues
        mapping.append({"iothread": thread, **({"vqs": list(queues)} if queues else {})})
    return mapping or None


def _known(part: Named[object], field: str, number: int, context: Context) -> str:
    """Return the id of thread *number*, which *field* of *part* names."""
    if number not in [thread.id for thread in iothreads_of(context.machine)]:
        raise part.mistake(
            field,
            f"the VM has no I/O thread {number}",
            f"name a thread that the VM has, or give it {number} or more I/O threads",
        )
    return f"iothread{number}"
