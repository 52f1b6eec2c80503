# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sockets between guest and host (vsock(7)), by vhost."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

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
from bpferry.domain.names import Named, single

if TYPE_CHECKING:
    from bpferry.domain.model.extras import Vsock

NODE: Final = "/dev/vhost-vsock"

MODULE_HINT: Final = "load its kernel module, such as 'modprobe vhost_vsock'"


def parts(context: Context) -> Iterator[Part]:
    """Yield the device. bpferry opens the node, since QEMU may not be allowed to."""
    if context.machine.vsock is not None:
        yield from attempt(_vsock, single(context.machine.vsock, "vsock"), context)


def _vsock(device: "Named[Vsock]", context: Context) -> Iterator[Found]:
    vsock = device.value
    name, cid = f"{device.id}.vhost", f"{device.id}.cid"
    if _is_automatic(vsock) and not context.has_vsock:
        # Without a CID there is no command line.
        yield device.refusal("", f"this host has no '{NODE}', which the device needs", MODULE_HINT)
        return
    if _is_automatic(vsock):
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


def _is_automatic(vsock: "Vsock") -> bool:
    """Say whether the host assigns the CID; as in libvirt, also if the document gives none."""
    return vsock.auto if vsock.auto is not None else vsock.cid is None


def _number(text: str) -> int | str:
    """Return the number that *text* is, or the name that replaces it in a dry run."""
    return int(text) if text.isdecimal() else text
