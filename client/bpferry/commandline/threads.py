# SPDX-License-Identifier: LGPL-2.1-or-later
"""The I/O threads that a VM has, and which of them works for a disk or a SCSI controller.

A thread works for the whole device, or for some of its queues.
"""

from itertools import count

from bpferry.commandline.context import Context, unsupported
from bpferry.domain.model.controllers import Controller
from bpferry.domain.model.disks import Disk
from bpferry.domain.model.iothreads import IoThread
from bpferry.domain.model.machine import Machine


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


def thread_of(device: Disk | Controller, key: str, context: Context) -> str | None:
    """Return the id of the one thread of *device*, if it has one.

    Raises:
        Unsupported: the VM has no such thread.
    """
    if device.iothread is None:
        return None
    if device.iothreads:
        raise unsupported(f"{key}.iothread", "the queues have threads already")
    return _known(device.iothread, f"{key}.iothread", context)


def queue_mapping(
    device: Disk | Controller, key: str, context: Context
) -> list[dict[str, object]] | None:
    """Return which thread serves which queue (qapi/virtio.json, IOThreadVirtQueueMapping).

    Raises:
        Unsupported: the VM has no such thread.
    """
    mapping: list[dict[str, object]] = []
    for index, one in enumerate(device.iothreads):
        thread = _known(one.id, f"{key}.iothreads[{index}].id", context)
        mapping.append({"iothread": thread, **({"vqs": list(one.queues)} if one.queues else {})})
    return mapping or None


def _known(number: int, key: str, context: Context) -> str:
    if number not in [thread.id for thread in iothreads_of(context.machine)]:
        raise unsupported(key, f"the VM has no I/O thread {number}")
    return f"iothread{number}"
