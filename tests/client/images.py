# SPDX-License-Identifier: LGPL-2.1-or-later
"""Small images of disks, as QEMU itself would make them, and VMs that use them."""

import struct
from pathlib import Path

from bpferry.domain.document import read_bytes
from bpferry.domain.model.machine import Machine

CLUSTER_BITS = 16
CLUSTER = 1 << CLUSTER_BITS


def write_qcow2(path: Path, size: int = 2**20, *, backing: str = "", of: str = "") -> Path:
    """Write an empty image of version 2 that QEMU opens, over *backing* in the format *of*."""
    name = backing.encode()
    extensions = bytes(8)
    if of:
        padded = of.encode().ljust(len(of) + -len(of) % 8, b"\0")
        extensions = struct.pack(">II", 0xE2792ACA, len(of)) + padded + extensions
    at = 72 + len(extensions)
    header = struct.pack(
        ">4sIQIIQIIQQIIQ",
        b"QFI\xfb", 2, at if name else 0, len(name), CLUSTER_BITS, size, 0, 1,
        3 * CLUSTER, CLUSTER, 1, 0, 0,
    )  # fmt: skip
    first = (header + extensions + name).ljust(CLUSTER, b"\0")
    table = struct.pack(">Q", 2 * CLUSTER).ljust(CLUSTER, b"\0")
    counts = struct.pack(">4H", 1, 1, 1, 1).ljust(CLUSTER, b"\0")
    path.write_bytes(first + table + counts + bytes(CLUSTER))
    return path


def machine_of(folder: Path, *disks: str) -> Machine:
    """Return a VM with *disks*, each the lines of one in TOML; its document is in *folder*."""
    text = 'name = "x"\nmemory = "64 MiB"\n' + "".join(f"[[disks]]\n{disk}\n" for disk in disks)
    return read_bytes(text.encode(), folder / "vm.toml").machine
