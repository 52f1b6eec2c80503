# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds the eBPF objects inside a binary.

QEMU carries its eBPF objects verbatim in its read-only data. Each is an ELF file of type ET_REL for
EM_BPF, and its header tells its length. Nothing else of an object is looked at here.
"""

import os
import struct
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from bpferry_helper.bpf.binary import Binary
from bpferry_helper.bpf.digest import sha256

MAX_OBJECT_BYTES: Final = 1_048_576
"""Of one eBPF object. "rss" has 20,208 bytes; libbpf and the kernel would take far more."""

MAX_OBJECTS_PER_BINARY: Final = 32
"""QEMU 11 carries one."""

MAX_HEADERS_PER_BINARY: Final = 65_536
"""Places in a binary that look like the start of an ELF file. QEMU has two."""

CHUNK_BYTES: Final = 1_048_576
"""Read at a time while scanning. Not mmap(2): if the file shrinks, that is a SIGBUS."""

ELF_MAGIC: Final = b"\x7fELF"
ELF_HEADER: Final = struct.Struct("=4s5B7xHHIQQQIHHHHHH")
"""Elf64_Ehdr of elf(5)."""

ELFCLASS64: Final = 2
ELFDATA: Final = 1 if sys.byteorder == "little" else 2
ET_REL: Final = 1
EM_BPF: Final = 247
"""elf.h. The kernel takes only programs in the host's byte order."""


class Embedded(NamedTuple):
    """One eBPF object inside a binary. Offset and length are in bytes."""

    digest: bytes
    offset: int
    length: int


def scan(binary: Binary) -> list[Embedded]:
    """Read all of *binary* and return every eBPF object in it."""
    found: list[Embedded] = []
    for offset in islice(_magic_offsets(binary), MAX_HEADERS_PER_BINARY):
        length = _object_length(binary, offset)
        if length:
            elf = os.pread(binary.fd.borrow(), length, offset)
            found.append(Embedded(sha256(elf), offset, length))
        if len(found) == MAX_OBJECTS_PER_BINARY:
            break
    return found


def _magic_offsets(binary: Binary) -> Iterator[int]:
    """Yield where an ELF header may start. Chunks overlap, so that no header is cut in two."""
    base = 0
    while base < binary.size:
        chunk = os.pread(binary.fd.borrow(), CHUNK_BYTES + len(ELF_MAGIC) - 1, base)
        at = chunk.find(ELF_MAGIC)
        while at >= 0:
            yield base + at
            at = chunk.find(ELF_MAGIC, at + 1)
        base += CHUNK_BYTES


def _object_length(binary: Binary, offset: int) -> int:
    """Return the length of the eBPF object at *offset*, or 0 if there is none.

    Compilers write the section headers last.
    """
    raw = os.pread(binary.fd.borrow(), ELF_HEADER.size, offset)
    if len(raw) < ELF_HEADER.size:
        return 0
    header = ELF_HEADER.unpack(raw)
    bits, order = header[1:3]
    kind, machine = header[6:8]
    if (bits, order, kind, machine) != (ELFCLASS64, ELFDATA, ET_REL, EM_BPF):
        return 0
    section_offset, entry_size, entries = header[11], header[16], header[17]
    length = int(section_offset + entry_size * entries)
    whole = ELF_HEADER.size < length <= min(MAX_OBJECT_BYTES, binary.size - offset)
    return length if whole else 0
