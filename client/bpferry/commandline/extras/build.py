# SPDX-License-Identifier: LGPL-2.1-or-later
"""The smaller devices, family by family, and those that are a few lines only."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from bpferry.commandline.applicable import check_address
from bpferry.commandline.attempt import attempt
from bpferry.commandline.context import Context, virtio_properties
from bpferry.commandline.extras import balloon, panics, vsock, watchdogs
from bpferry.commandline.parts import Device, Folder, Found, Option, Part, Slot, json_of
from bpferry.domain.names import Named, named, single

if TYPE_CHECKING:
    from bpferry.domain.model.extras import Crypto, Pstore

RECORD: Final = 8192
"""Bytes of one record of ACPI ERST by default (hw/acpi/erst.c)."""


def parts(context: Context) -> Iterator[Part]:
    """Yield all of them."""
    machine = context.machine
    # Nearly every VM has a balloon, and none has all of the others.
    if machine.filesystems:
        from bpferry.commandline.extras import filesystems  # noqa: PLC0415 - see above

        yield from filesystems.parts(context)
    yield from watchdogs.parts(context)
    yield from balloon.parts(context)
    if machine.rngs:
        from bpferry.commandline.extras import rngs  # noqa: PLC0415 - see above

        yield from rngs.parts(context)
    yield from _cryptos(context)
    if machine.shared_memories:
        from bpferry.commandline.extras import shared_memories  # noqa: PLC0415 - see above

        yield from shared_memories.parts(context)
    yield from panics.parts(context)
    yield from vsock.parts(context)
    if machine.pstore is not None:
        yield from attempt(_pstore, single(machine.pstore, "pstore"), context)


def _cryptos(context: Context) -> Iterator[Part]:
    for device in named(context.machine.cryptos, "cryptos", "crypto"):
        yield from attempt(_crypto, device, context)


def _crypto(device: "Named[Crypto]", context: Context) -> Iterator[Found]:
    crypto = device.value
    if crypto.queues is not None and crypto.queues > 1:
        yield device.refusal(
            "queues", "QEMU's builtin back end has one queue", "leave the number of queues out"
        )
    behind = {
        "qom-type": "cryptodev-backend-builtin",
        "id": f"obj{device.id}",
        "queues": crypto.queues,
    }
    yield Option("-object", json_of(behind))
    yield Device(
        context.virtio("virtio-crypto"),
        device.id,
        device.key,
        {"cryptodev": behind["id"], **virtio_properties(crypto)},
        # As libvirt has it, since the guest's addresses follow from it.
        slot=Slot.CONVENTIONAL,
        address=crypto.address,
    )


def _pstore(device: "Named[Pstore]", context: Context) -> Iterator[Found]:
    pstore = device.value
    yield from check_address(device, "pci")
    if not context.machine.features.acpi or context.family not in ("pc", "q35"):
        yield device.refusal(
            "",
            "it needs ACPI, on an x86 machine with PCI",
            "remove the device, or use an x86 machine with PCI and ACPI",
        )
    if pstore.size < 2 * RECORD or pstore.size % RECORD:
        yield device.mistake(
            "size",
            f"it has to be a multiple of {RECORD} bytes, and at least two of them",
            f"write a multiple of {RECORD}, such as {16 * RECORD}",
        )
    if pstore.file is None:
        yield Folder(context.folders.state, device.key)
    behind = {
        "qom-type": "memory-backend-file",
        "id": f"mem{device.id}",
        "mem-path": pstore.file or f"{context.folders.state}/pstore.raw",
        "size": pstore.size,
        "share": True,
    }
    yield Option("-object", json_of(behind))
    properties = {"memdev": behind["id"]}
    yield Device(
        "acpi-erst",
        device.id,
        device.key,
        properties,
        slot=Slot.CONVENTIONAL,
        address=pstore.address,
    )
