# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which I/O thread works for a disk or a SCSI controller, or for each of its queues."""

from bpferry.domain.model.controllers import Controller
from bpferry.domain.model.disks import Disk
from bpferry.qemu.commandline.context import Context, unsupported
from bpferry.qemu.commandline.system.iothreads import iothreads_of


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
