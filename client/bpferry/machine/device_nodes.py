# SPDX-License-Identifier: LGPL-2.1-or-later
"""Device nodes that bpferry opens for QEMU, such as /dev/vhost-vsock, and what they provide."""

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from typing import Final

from bpferry.commandline.extras.vsock import MODULE_HINT
from bpferry.commandline.parts import OpenDevice, OpenVsock
from bpferry.domain.forms import either
from bpferry.errors import BpferryError
from bpferry.network.groups import explain_device

FIRST_CID: Final = 3
"""0 to 2 are reserved (linux/vm_sockets.h)."""

LAST_CID: Final = FIRST_CID + 2**16
"""More VMs than any host has."""

VHOST_VSOCK_SET_GUEST_CID: Final = 0x4008_AF60
"""_IOW(0xAF, 0x60, __u64) of linux/vhost.h."""


def acquire_cid(
    fd: int, vsock: OpenVsock, set_cid: Callable[[int, int], object] | None = None
) -> int:
    """Return the lowest free CID, which belongs to the VM until *fd* is closed.

    Args:
        fd: of vhost-vsock; borrowed.
        vsock: what it is for.
        set_cid: how the kernel is asked for one CID, given *fd* and the CID.

    Raises:
        BpferryError: the kernel does not assign one.
    """
    for cid in range(FIRST_CID, LAST_CID + 1):
        try:
            (set_cid or _set_cid)(fd, cid)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            raise _no_cid(vsock, str(error.strerror)) from error
        return cid
    raise _no_cid(vsock, f"all up to {LAST_CID} are taken")


def _set_cid(fd: int, cid: int) -> None:
    fcntl.ioctl(fd, VHOST_VSOCK_SET_GUEST_CID, struct.pack("=Q", cid))


def _no_cid(vsock: OpenVsock, why: str) -> BpferryError:
    return BpferryError(
        f"cannot get a CID from '{vsock.path}': {why}",
        "give the VM a CID by its number: "
        + either("cid = 77 in [vsock]", "<cid auto='no' address='77'/>"),
        vsock.key,
    )


@contextlib.contextmanager
def open_device(device: OpenDevice | OpenVsock) -> Iterator[int]:
    """Open the node of *device* and yield its fd, which is closed with the block.

    Raises:
        BpferryError: it cannot be opened.
    """
    try:
        fd = os.open(device.path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except PermissionError as error:
        cause, hint = explain_device(device.path, MODULE_HINT)
        raise BpferryError(f"cannot open '{device.path}': {cause}", hint, device.key) from error
    except OSError as error:
        message = f"cannot open '{device.path}': {error.strerror}"
        hint = MODULE_HINT if isinstance(error, FileNotFoundError) else ""
        raise BpferryError(message, hint, device.key) from error
    try:
        yield fd
    finally:
        os.close(fd)
