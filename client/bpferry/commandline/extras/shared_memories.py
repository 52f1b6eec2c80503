# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory that several VMs see (ivshmem): a file of the host, or handed out by a server."""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.attempt import attempt
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device, Found, Option, Part, Slot, join, json_of, on_off
from bpferry.domain.model.extras import Interrupts, SharedMemory
from bpferry.domain.names import Named, named

MIB: Final = 2**20

USUAL_SIZE: Final = 4 * MIB
"""As in libvirt."""

FOLDER: Final = "/dev/shm"  # noqa: S108 - where POSIX shared memory is, by the names of documents

Made = tuple[Option, dict[str, object]]


def parts(context: Context) -> Iterator[Part]:
    """Yield each device after what is behind it."""
    for device in named(context.machine.shared_memories, "shared-memories", "shmem"):
        yield from attempt(_memory, device, context)


def _memory(device: Named[SharedMemory], _: Context) -> Iterator[Found]:
    memory = device.value
    if "/" in memory.name or memory.name in (".", "..", ""):
        yield device.mistake("name", "no file can have this name", "write a name without '/'")
    made = _plain if memory.model == "ivshmem-plain" else _with_server
    behind, properties = made(device)
    yield behind
    yield Device(
        memory.model,
        device.id,
        device.key,
        properties,
        slot=Slot.CONVENTIONAL,
        address=memory.address,
    )


def _plain(device: Named[SharedMemory]) -> Made:
    memory = device.value
    if memory.server is not None or memory.interrupts is not None:
        field = "server" if memory.server is not None else "interrupts"
        raise device.refusal(field, "plain shared memory has none", "use ivshmem-doorbell")
    size = memory.size or USUAL_SIZE
    if size < MIB or size.bit_count() != 1:
        raise device.refusal(
            "size",
            "it has to be a power of two, and at least 1 MiB",
            "write a power of two, such as 4 MiB",
        )
    file = {
        "qom-type": "memory-backend-file",
        "id": f"shmmem-{device.id}",
        "mem-path": f"{FOLDER}/{memory.name}",
        "size": size,
        "share": True,
    }
    master = None if memory.role is None else memory.role == "master"
    return Option("-object", json_of(file)), {"memdev": file["id"], "master": on_off(master)}


def _with_server(device: Named[SharedMemory]) -> Made:
    memory = device.value
    if memory.server is None:
        raise device.refusal("", "it needs an ivshmem-server", "use ivshmem-plain")
    for name, value in (("size", memory.size), ("role", memory.role)):
        if value is not None:
            raise device.refusal(
                name,
                "the server decides this",
                "leave it out, and set it where the server is started",
            )
    # Without a path, the socket is where libvirt documents it.
    path = memory.server.path or f"/var/lib/libvirt/shmem-{memory.name}-sock"
    chardev = f"char{device.id}"
    wanted = memory.interrupts or Interrupts()
    properties: dict[str, object] = {
        "chardev": chardev,
        "vectors": wanted.vectors,
        "ioeventfd": wanted.ioeventfd is not False,
    }
    return Option("-chardev", join("socket", id=chardev, path=path)), properties
