# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sockets between guest and host (vsock(7)), by vhost."""

import hashlib
from collections.abc import Iterator
from typing import Final

from bpferry.commandline.attempt import attempt
from bpferry.commandline.context import Context, virtio_properties
from bpferry.commandline.parts import (
    Device,
    Endpoint,
    Found,
    OpenDevice,
    OpenVsock,
    Part,
    virtio_slot,
)
from bpferry.domain.forms import either
from bpferry.domain.model.extras import Vsock
from bpferry.domain.names import Named, single
from bpferry.errors import Unsupported

NODE: Final = "/dev/vhost-vsock"

FIRST_CID: Final = 3
"""0 to 2 are reserved (linux/vm_sockets.h)."""


def parts(context: Context) -> Iterator[Part]:
    """Yield the device. bpferry opens the node, since QEMU may not be allowed to."""
    if context.machine.vsock is not None:
        yield from attempt(_vsock, single(context.machine.vsock, "vsock"), context)


def _vsock(device: Named[Vsock], context: Context) -> Iterator[Found]:
    vsock = device.value
    name, cid = f"{device.id}.vhost", f"{device.id}.cid"
    if _is_automatic(vsock):
        yield from _check_host(device, context)
        yield OpenVsock(name, cid, NODE, device.key)
    else:
        yield OpenDevice(name, NODE, device.key)
    number = context.fd(cid) if _is_automatic(vsock) else str(vsock.cid)
    yield Endpoint("vsock", "vsock", device.key, port=number)
    yield Device(
        context.virtio("vhost-vsock", vsock.model),
        device.id,
        device.key,
        {
            "guest-cid": _number(number),
            "vhostfd": context.fd(name),
            **virtio_properties(vsock),
        },
        slot=virtio_slot(vsock.model),
        address=vsock.address,
    )


def _is_automatic(vsock: Vsock) -> bool:
    """Say whether the host assigns the CID; as in libvirt, also if the document gives none."""
    return vsock.auto if vsock.auto is not None else vsock.cid is None


def _check_host(device: Named[Vsock], context: Context) -> Iterator[Unsupported]:
    """Yield a refusal if this kernel cannot assign a CID."""
    if not context.has_vsock:
        suggested = suggest_cid(context.folders.runtime)
        yield device.refusal(
            "",
            f"this host has no '{NODE}', which would give a free CID",
            f"have the kernel's module loaded (modprobe vhost_vsock), or give the VM a CID, such "
            f"as {_written(suggested)}",
        )


def _written(cid: int) -> str:
    return either(f"cid = {cid}", f"<cid auto='no' address='{cid}'/>")


def _number(text: str) -> int | str:
    """Return the number that *text* is, or the name that replaces it in a dry run."""
    return int(text) if text.isdecimal() else text


def suggest_cid(of: str) -> int:
    """Return a CID made from the text *of*: always the same, and hardly one that others have."""
    digest = hashlib.sha256(of.encode()).digest()
    return FIRST_CID + int.from_bytes(digest[:4]) % (2**31 - FIRST_CID)
