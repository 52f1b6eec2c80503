# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sockets between guest and host (vsock(7)), by vhost."""

import hashlib
from collections.abc import Iterator
from typing import Final

from bpferry.commandline.context import Context, unsupported, virtio_properties
from bpferry.commandline.extras.transitional import slot_of
from bpferry.commandline.parts import Device, Endpoint, OpenDevice, Part
from bpferry.domain.names import chosen

NODE: Final = "/dev/vhost-vsock"

FIRST_CID: Final = 3
"""0 to 2 are reserved (linux/vm_sockets.h)."""


def parts(context: Context) -> Iterator[Part]:
    """Yield the device. bpferry opens the node, as QEMU may have no right to."""
    vsock = context.machine.vsock
    if vsock is None:
        return
    if vsock.auto or vsock.cid is None:
        raise unsupported(
            "vsock.auto" if vsock.auto else "vsock",
            "no two VMs of a host may have the same CID, and nobody hands them out here",
            f"give it one, such as {suggest_cid(context.folders.runtime)} (in XML "
            f"<cid auto='no' address='{suggest_cid(context.folders.runtime)}'/>)",
        )
    device_id = chosen(vsock) or "vsock0"
    name = f"{device_id}.vhost"
    yield OpenDevice(name, NODE, "vsock")
    yield Endpoint("vsock", "vsock", "vsock", port=str(vsock.cid))
    yield Device(
        context.virtio("vhost-vsock", vsock.model),
        device_id,
        "vsock",
        {"guest-cid": vsock.cid, "vhostfd": context.fd(name), **virtio_properties(vsock)},
        slot_of(vsock.model),
        vsock.address,
    )


def suggest_cid(of: str) -> int:
    """Return a CID that hardly anything else has, made from the text *of*: always the same one."""
    digest = hashlib.sha256(of.encode()).digest()
    return FIRST_CID + int.from_bytes(digest[:4]) % (2**31 - FIRST_CID)
