# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether this host has as much memory as the guest may use, with its swap.

It may start all the same: Linux gives a process more memory than there is, and ends a process when
it is used. So this is a warning. Huge pages are reserved, and have a check of their own
(huge_pages); what is in a file need not be in memory.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bpferry.domain.model.machine import Machine
from bpferry.machine.faults import Fault

MEMINFO: Final = Path("/proc/meminfo")

KIB: Final = 1024
GIB: Final = 2**30

FIELDS: Final = ("MemTotal", "SwapTotal")


def find_scarce_memory(machine: Machine, meminfo: Path = MEMINFO) -> Iterator[Fault]:
    """Yield that the guest of *machine* may use more memory than this host has at all."""
    backing = machine.memory_backing
    if backing is not None and (backing.huge_pages is not None or backing.source == "file"):
        return
    there = total_memory(meminfo)
    wanted = machine.memory + sum(
        device.size for device in machine.memory_devices if device.file is None
    )
    if there is not None and wanted > there:
        yield Fault(
            "memory",
            "warning",
            f"the guest may use {_shown(wanted)} of memory, and this host has {_shown(there)} with "
            "its swap",
            "when that is used up, the kernel ends QEMU or another process",
            fix="give the guest less memory, or the host more swap",
            kind="host",
        )


def total_memory(meminfo: Path = MEMINFO) -> int | None:
    """Return how many bytes of memory and swap this host has; None if it does not say."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
        found = {name: int(rest.split()[0]) for name, _, rest in (x.partition(":") for x in lines)}
        return sum(found[name] for name in FIELDS) * KIB
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _shown(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
