# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which limits the kernel has in force for a process, in its control group (cgroup-v2.rst)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bpferry.commandline.parts import Limit
from bpferry.machine.reporter import Reporter

GROUPS: Final = Path("/sys/fs/cgroup")

FILES: Final[Mapping[str, str]] = {
    "CPUWeight": "cpu.weight",
    "CPUQuota": "cpu.max",
    "CPUQuotaPeriodSec": "cpu.max",
    "MemoryMax": "memory.max",
    "MemoryHigh": "memory.high",
    "MemorySwapMax": "memory.swap.max",
    "IOWeight": "io.weight",
    "IODeviceWeight": "io.weight",
    "IOReadBandwidthMax": "io.max",
    "IOWriteBandwidthMax": "io.max",
    "IOReadIOPSMax": "io.max",
    "IOWriteIOPSMax": "io.max",
}
"""Where the kernel says what is in force (cgroup-v2.rst)."""

RATES: Final[Mapping[str, str]] = {
    "IOReadBandwidthMax": "rbps",
    "IOWriteBandwidthMax": "wbps",
    "IOReadIOPSMax": "riops",
    "IOWriteIOPSMax": "wiops",
}
"""What they are called in io.max."""

LARGEST_PAGE: Final = 65_536
"""The kernel rounds limits of memory down to a page."""

TOLERANCE: Final = 0.01
"""systemd and the kernel round quotas."""

GONE: Final = " (deleted)"
"""Follows the name of the group of a process that has ended (cgroups(7))."""

TRIES, PAUSE_SECONDS = 30, 0.1
"""systemd answers before it has written to the group."""


def controller_of(limit: Limit) -> str:
    """Return the controller of the kernel that *limit* needs."""
    return FILES[limit.name].partition(".")[0]


def group_of(process: int | str, groups: Path = GROUPS) -> Path:
    """Return the folder of the control group of *process*; *groups* itself if there is none."""
    try:
        text = Path(f"/proc/{process}/cgroup").read_text(encoding="utf-8")
    except OSError:
        return groups
    for line in text.splitlines():
        if line.startswith("0::"):
            return groups / line.removeprefix("0::").lstrip("/")
    return groups


def look(group: Path, limits: Sequence[Limit]) -> list[dict[str, str]]:
    """Return each of *limits* with what the kernel has in its place."""
    return [
        {
            "name": limit.name,
            "value": limit.value,
            "file": FILES[limit.name],
            "kernel": _text_of(group / FILES[limit.name]),
        }
        for limit in limits
    ]


def _text_of(path: Path) -> str:
    try:
        return ", ".join(path.read_text(encoding="ascii").split("\n")[:-1])
    except OSError:
        return ""


async def confirm(pid: int, limits: Sequence[Limit], reporter: Reporter) -> None:
    """Tell which of *limits* are in force for the process *pid*, and warn of those that are not."""
    import asyncio  # noqa: PLC0415 - not before QEMU runs

    if not limits:
        return
    for _ in range(TRIES):
        group = group_of(pid)
        seen = look(group, limits)
        wrong = [one for one in seen if not _agrees(one)]
        if group.name.endswith(GONE):
            return
        if not wrong:
            break
        await asyncio.sleep(PAUSE_SECONDS)
    good = "; ".join(describe(one) for one in seen if one not in wrong)
    if good:
        reporter.note(f"QEMU's unit '{group.name}' is limited: {good}")
    for one in wrong:
        found = one["kernel"] or "nothing"
        reporter.warn(
            f"the limit {one['name']}={one['value']} is not in force: the kernel has {found} in "
            f"'{group / one['file']}'",
            f"see what your systemd says: systemctl --user status {group.name}",
        )


def describe(seen: Mapping[str, object]) -> str:
    """Return what was asked for and what the kernel has, for people."""
    return f"{seen['name']}={seen['value']} ({seen['file']}: {seen['kernel'] or 'nothing'})"


def _agrees(seen: Mapping[str, str]) -> bool:
    """Say whether the kernel has what was asked for."""
    name, value, kernel = seen["name"], seen["value"], seen["kernel"]
    if name.startswith("Memory"):
        return kernel.isdecimal() and 0 <= _bytes(value) - int(kernel) < LARGEST_PAGE
    if name == "CPUQuota":
        return _is_quota(value, kernel)
    if name == "CPUQuotaPeriodSec":
        return value == f"{kernel.rpartition(' ')[2]}us"
    if name == "CPUWeight":
        return value == kernel
    return _has_device_limit(name, value.rpartition(" ")[2], kernel)


def _bytes(value: str) -> int:
    return int(value.removesuffix("K")) * (1024 if value.endswith("K") else 1)


def _is_quota(value: str, kernel: str) -> bool:
    quota, _, period = kernel.partition(" ")
    if not quota.isdecimal():
        return False
    wanted = float(value.rstrip("%")) / 100
    return abs(int(quota) / int(period) - wanted) <= TOLERANCE * wanted


def _has_device_limit(name: str, value: str, kernel: str) -> bool:
    """Say whether a line of *kernel* has *value*; the kernel names devices by numbers."""
    if name in RATES:
        return f"{RATES[name]}={value}" in kernel.replace(",", " ").split()
    lines = [line.partition(" ") for line in kernel.split(", ")]
    is_default = name == "IOWeight"
    return any((who == "default") is is_default and value == weight for who, _, weight in lines)
