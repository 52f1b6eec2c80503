# SPDX-License-Identifier: LGPL-2.1-or-later
"""Run a loaded program once on a frame, in the kernel: BPF_PROG_TEST_RUN of bpf(2).

Whoever holds the fd of a program may do that, without a privilege; on Linux before 5.19 only if
kernel.unprivileged_bpf_disabled is 0. The system call is made by its number through ctypes: it is
the only one of its kind in the client, which would otherwise need libbpf for a structure of five
fields. Nothing is attached, and no packet leaves or enters the host.
"""

import ctypes
import os
import platform
import struct
from typing import Final

from bpferry.errors import BpferryError
from bpferry_wire.fds import BorrowedFd

SYS_BPF: Final = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
"""The number of bpf(2), by machine (asm/unistd.h)."""

BPF_PROG_TEST_RUN: Final = 10

ATTRIBUTES: Final = struct.Struct("=IIIIQQII")
"""The test part of union bpf_attr (linux/bpf.h): program, return value, sizes of data in and out,
pointers to both, how often, how long. The kernel takes what follows for zeros."""


def run_once(program: BorrowedFd, frame: bytes) -> int:
    """Return what *program*, a socket filter, returns for the Ethernet *frame*.

    Raises:
        BpferryError: the kernel does not run it, or this machine is not in the table.
    """
    number = SYS_BPF.get(platform.machine())
    if number is None:
        raise BpferryError(f"the number of bpf(2) on {platform.machine()} is not known")
    data = ctypes.create_string_buffer(frame, len(frame))
    attributes = ctypes.create_string_buffer(
        ATTRIBUTES.pack(program, 0, len(frame), 0, ctypes.addressof(data), 0, 1, 0),
        ATTRIBUTES.size,
    )
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, BPF_PROG_TEST_RUN, attributes, ATTRIBUTES.size) != 0:
        cause = os.strerror(ctypes.get_errno())
        raise BpferryError(f"the kernel does not run the eBPF program: {cause}")
    return int(ATTRIBUTES.unpack(attributes.raw)[1])
