# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether this host has as many huge pages as the VM's memory takes (hugetlbpage.rst of Linux).

They are reserved by the administrator, for all processes of the host together.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from bpferry.commandline.build import Built
from bpferry.commandline.parts import Option
from bpferry.errors import NotReady

POOLS: Final = Path("/sys/kernel/mm/hugepages")

MEMINFO: Final = Path("/proc/meminfo")

KIB: Final = 1024

KEY: Final = "memory-backing.huge-pages"


class Pool(Struct, frozen=True):
    """The huge pages of one size."""

    total: int
    left: int
    """Those that nobody has or has reserved, with those that the kernel may add."""


def find_missing_pages(
    built: Built, pools: Path = POOLS, meminfo: Path = MEMINFO
) -> Iterator[NotReady]:
    """Yield the sizes of which this host has too few now; the errors' element is a key."""
    for size, number in sorted(_wanted(built, meminfo).items()):
        pool = _read_pool(pools, size)
        if pool is None:
            yield _no_such_size(size, pools)
        elif pool.left < number:
            total = pool.total + number - pool.left
            yield NotReady(
                f"the guest's memory takes {number} huge pages of {size // KIB} KiB, and this host "
                f"has {pool.left or 'none'} left",
                f"ask the administrator to reserve them, with {_command(size, total, meminfo)}; or "
                "use memory without huge pages",
                KEY,
            )


def _wanted(built: Built, meminfo: Path) -> Counter[int]:
    """Return how many pages the VM takes, by their size in bytes."""
    wanted: Counter[int] = Counter()
    for option in built.of(Option):
        if option.name == "-object" and option.value and option.value.startswith("{"):
            found = json.loads(option.value)
            size = found.get("hugetlbsize") or _usual_size(meminfo)
            if found.get("hugetlb") and size:
                wanted[size] += -(-found["size"] // size)
    return wanted


def _usual_size(meminfo: Path) -> int:
    """Return the size of huge pages where nobody names one; 0 if this host has none."""
    for line in meminfo.read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "Hugepagesize":
            return int(value.split()[0]) * KIB
    return 0


def _read_pool(pools: Path, size: int) -> Pool | None:
    folder = pools / f"hugepages-{size // KIB}kB"
    try:
        total, free, reserved, most_added, added = (
            int((folder / name).read_text(encoding="ascii"))
            for name in (
                "nr_hugepages",
                "free_hugepages",
                "resv_hugepages",
                "nr_overcommit_hugepages",
                "surplus_hugepages",
            )
        )
    except OSError:
        return None
    return Pool(total, max(free - reserved, 0) + max(most_added - added, 0))


def _no_such_size(size: int, pools: Path) -> NotReady:
    try:
        names = sorted(path.name.removeprefix("hugepages-") for path in pools.iterdir())
    except OSError:
        names = []
    return NotReady(
        f"this host has no huge pages of {size // KIB} KiB",
        f"choose a size that it has: {', '.join(names)}"
        if names
        else "use memory without huge pages: its kernel has none",
        KEY,
    )


def _command(size: int, total: int, meminfo: Path) -> str:
    if size == _usual_size(meminfo):
        return f"'sysctl vm.nr_hugepages={total}'"
    return f"'echo {total} > {POOLS}/hugepages-{size // KIB}kB/nr_hugepages'"
