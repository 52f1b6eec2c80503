# SPDX-License-Identifier: LGPL-2.1-or-later
"""Device nodes that bpferry opens for QEMU, such as /dev/vhost-vsock."""

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Final

from bpferry.commandline.parts import OpenDevice
from bpferry.errors import BpferryError

HINTS: Final = {
    errno.ENOENT: "load the kernel's module for it, such as vhost_vsock (modprobe)",
    errno.EACCES: "on most distributions members of the group kvm may open it",
}


@contextlib.contextmanager
def open_device(device: OpenDevice) -> Iterator[int]:
    """Open the node of *device* and yield its fd, which is closed with the block.

    Raises:
        BpferryError: it cannot be opened.
    """
    try:
        fd = os.open(device.path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise BpferryError(
            f"cannot open '{device.path}' for '{device.key}': {error.strerror}",
            HINTS.get(error.errno or 0, ""),
            device.key,
        ) from error
    try:
        yield fd
    finally:
        os.close(fd)
