# SPDX-License-Identifier: LGPL-2.1-or-later
"""The eBPF object that the installed QEMU carries, found as the helper finds it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.command import BenchError
from bpferry_helper.bpf.binary import Untrusted, open_trusted
from bpferry_helper.bpf.embedded import scan
from bpferry_helper.policy.rules import DEFAULT_TRUSTED

OBJECT_ID = "rss"
"""The one that QEMU has today."""


@dataclass(frozen=True, slots=True)
class CarriedObject:
    """The bytes of an object, their SHA-256, and the binary that they are from."""

    binary: str
    digest: bytes
    elf: bytes


def find_object() -> CarriedObject:
    """Return the first object of the first trusted QEMU that carries one."""
    for path in _trusted_paths():
        try:
            binary = open_trusted(path)
        except (Untrusted, OSError):
            # Such as a symbolic link; the helper does not search it either.
            continue
        with binary.fd:
            for found in scan(binary):
                elf = os.pread(binary.fd.borrow(), found.length, found.offset)
                return CarriedObject(path, found.digest, elf)
    patterns = ", ".join(DEFAULT_TRUSTED)
    raise BenchError(f"no QEMU with an eBPF object in '{patterns}'", "install QEMU 9.0 or newer")


def _trusted_paths() -> Iterator[str]:
    for pattern in map(Path, DEFAULT_TRUSTED):
        yield from map(str, sorted(pattern.parent.glob(pattern.name)))
