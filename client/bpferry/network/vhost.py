# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel's vhost-net: whether it works for this user, and one fd of it for each queue.

A file that opens need not be a vhost device: it is asked for its features (VHOST_GET_FEATURES of
linux/vhost.h), which needs no further permission and changes nothing.
"""

import fcntl
import os
from typing import Final

from bpferry.errors import BpferryError
from bpferry.network.groups import explain_device
from bpferry_wire.fds import OwnedFd, OwnedFds

VHOST_GET_FEATURES: Final = 0x8008_AF00
FEATURES_BYTES: Final = 8

HINT: Final = "ask the administrator to load the module: modprobe vhost_net"


def probe_vhost(device: str) -> str:
    """Return why the vhost device *device* cannot be used; empty if it can."""
    problem, _ = explain_vhost(device)
    return problem


def explain_vhost(device: str) -> tuple[str, str]:
    """Return the same, and what to do about it."""
    try:
        with _open(device):
            return "", ""
    except BpferryError as error:
        return error.message, error.hint


def open_vhost(device: str, queues: int) -> OwnedFds:
    """Return one fd of the vhost device *device* for each of *queues*.

    Raises:
        BpferryError: with what is in the way.
    """
    fds = OwnedFds()
    try:
        for _ in range(queues):
            fds.add(_open(device).take())
    except BaseException:
        fds.close()
        raise
    return fds


def _open(device: str) -> OwnedFd:
    try:
        fd = OwnedFd(os.open(device, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY))
    except PermissionError as error:
        cause, hint = explain_device(device, HINT)
        raise BpferryError(f"cannot open '{device}': {cause}", hint) from error
    except OSError as error:
        raise BpferryError(f"cannot open '{device}': {error.strerror}", HINT) from error
    try:
        fcntl.ioctl(fd.borrow(), VHOST_GET_FEATURES, bytes(FEATURES_BYTES))
    except OSError as error:
        fd.close()
        raise BpferryError(
            f"cannot use '{device}': it is not a vhost device ({error.strerror})", HINT
        ) from error
    return fd
