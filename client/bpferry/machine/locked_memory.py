# SPDX-License-Identifier: LGPL-2.1-or-later
"""How much memory QEMU may lock. With a device of the host, that is all of the guest's memory."""

import contextlib
import os
import resource
from collections.abc import Iterator
from typing import Final

from bpferry.commandline.build import Built
from bpferry.commandline.parts import LockedMemory
from bpferry.errors import BpferryError

KIB: Final = 1024

Limits = tuple[int, int]
"""The soft limit, and the hard limit up to which a process may raise it."""


def own_limits() -> Limits:
    """Return the limits of this process, in bytes; RLIM_INFINITY for none."""
    return resource.getrlimit(resource.RLIMIT_MEMLOCK)


def find_limit_fault(built: Built, limits: Limits) -> Iterator[BpferryError]:
    """Yield why that much memory cannot be locked; the error's element is a key of the model."""
    _, hard = limits
    for wanted in built.of(LockedMemory):
        # root has CAP_IPC_LOCK, so there is no limit.
        if hard == resource.RLIM_INFINITY or hard >= wanted.size or os.geteuid() == 0:
            continue
        size = -(-wanted.size // KIB)
        yield BpferryError(
            f"QEMU has to lock {size} KiB of memory for it, and you may lock {hard // KIB} "
            "KiB (ulimit -H -l)",
            "ask the administrator to raise that in /etc/security/limits.d/bpferry.conf: "
            f"'{os.environ.get('USER', 'USER')} - memlock {size}', and log in again; in a unit of "
            f"systemd: LimitMEMLOCK={size}K",
            wanted.key,
        )


@contextlib.contextmanager
def raised_limit(built: Built) -> Iterator[None]:
    """Let processes that are started in the block lock as much memory as *built* needs."""
    before = soft, hard = own_limits()
    wanted = max((part.size for part in built.of(LockedMemory)), default=0)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        yield
        return
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, before)
