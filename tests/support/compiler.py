# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compiles small BPF programs and C programs for tests."""

import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests import requires

MULTIARCH = f"/usr/include/{platform.machine()}-linux-gnu"
"""Where Debian keeps asm/types.h."""


def bpf_object(source: str | Path, target: Path, options: Sequence[str] = ("-g",)) -> bytes:
    """Compile *source*, a file or its text, into *target* and return its bytes."""
    if isinstance(source, str):
        text, source = source, target.with_suffix(".c")
        source.write_text(text)
    command = [
        requires.program("clang"), "-O2", *options, "-target", "bpf", f"-I{MULTIARCH}",
        "-c", str(source), "-o", str(target),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return target.read_bytes()


SIMPLE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} seen SEC(".maps");

SEC("%(section)s")
int look(void *context)
{
    __u32 key = 0;
    __u64 *count = bpf_map_lookup_elem(&seen, &key);

    if (count)
        *count += 1;
    return %(result)s;
}

char LICENSE[] SEC("license") = "GPL";
"""
"""A program with one map, of the type that its section says."""


def simple(section: str, result: int = 0) -> str:
    """Return the source of a program for *section* that returns *result*."""
    return SIMPLE % {"section": section, "result": result}
