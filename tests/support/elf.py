# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes files that hold what looks like eBPF objects."""

from bpferry_helper.bpf.embedded import ELF_HEADER, ELFCLASS64, ELFDATA, EM_BPF, ET_REL

SECTION_BYTES = 64


def header(section_offset: int, sections: int = 1, machine: int = EM_BPF) -> bytes:
    """Return an ELF header that places *sections* section headers at *section_offset*."""
    return ELF_HEADER.pack(
        b"\x7fELF", ELFCLASS64, ELFDATA, 1, 0, 0, ET_REL, machine, 1, 0, 0, section_offset, 0,
        ELF_HEADER.size, 0, 0, SECTION_BYTES, sections, 0,
    )  # fmt: skip


def fake_object(content: bytes, machine: int = EM_BPF) -> bytes:
    """Return a file of the outer form of an object; libbpf would not take it."""
    start = ELF_HEADER.size + len(content)
    return header(start, machine=machine) + content + bytes(SECTION_BYTES)
