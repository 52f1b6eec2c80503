# SPDX-License-Identifier: LGPL-2.1-or-later
"""The limits of a libvirt document that take a control group, as properties of a systemd unit.

bpferry makes no control group. A user's own systemd does, for a scope in which bpferry is started
(systemd.resource-control(5)): then they hold for bpferry, QEMU and what runs beside them together.
"""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bpferry.errors import Unsupported

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

IN_SCOPE: Final = "{scope}"
"""Stands in a hint for the command with the document's own values."""

WEIGHTS: Final = (1, 10_000)
"""Of CPUWeight= and IOWeight=; libvirt hands its own over as they are (vircgroupv2.c)."""

USUAL_PERIOD: Final = 100_000
"""Microseconds, of the kernel, where a document says none."""

DEVICE_LIMITS: Final = {
    "weight": "IODeviceWeight",
    "read_bytes_sec": "IOReadBandwidthMax",
    "write_bytes_sec": "IOWriteBandwidthMax",
    "read_iops_sec": "IOReadIOPSMax",
    "write_iops_sec": "IOWriteIOPSMax",
}
"""The properties for what <blkiotune> says of one device."""


VAIN: Final = "remove it: it limits nothing"


def fill_in(refusal: Unsupported, root: "Element", path: Path) -> None:
    """Put the command with the values of the document *root* into the hint of *refusal*."""
    if IN_SCOPE in refusal.hint:
        properties = [*_of_processors(root), *_of_devices(root)]
        command = _command(properties, path)
        refusal.hint = refusal.hint.replace(IN_SCOPE, command) if properties else VAIN


def _command(properties: Sequence[str], path: Path) -> str:
    """Return what starts the document at *path* with *properties*."""
    words = ["systemd-run", "--user", "--scope"]
    for one in properties:
        words += ["-p", one]
    return shlex.join([*words, "bpferry", "run", str(path)])


def _of_processors(root: "Element") -> Iterator[str]:
    shares = _number(root, "cputune/shares")
    if shares:
        yield f"CPUWeight={_weight(shares)}"
    quota, period, factor = _number(root, "cputune/global_quota"), "global_period", 1
    if quota <= 0:
        quota, period, factor = _number(root, "cputune/quota"), "period", _vcpus(root)
    if quota <= 0:
        return  # It is the word for no limit.
    length = _number(root, f"cputune/{period}") or USUAL_PERIOD
    percent = f"{100 * factor * quota / length:.2f}".rstrip("0").rstrip(".")
    yield f"CPUQuota={percent}%"
    if length != USUAL_PERIOD:
        yield f"CPUQuotaPeriodSec={length}us"


def _of_devices(root: "Element") -> Iterator[str]:
    weight = _number(root, "blkiotune/weight")
    if weight:
        yield f"IOWeight={_weight(weight)}"
    for device in root.findall("blkiotune/device"):
        path = (device.findtext("path") or "").strip()
        for name, own in DEVICE_LIMITS.items():
            value = _number(device, name)
            if path and value:
                yield f"{own}={path} {_weight(value) if name == 'weight' else value}"


def _vcpus(root: "Element") -> int:
    """Return the number of processors: each has the quota for itself."""
    return max(_number(root, "vcpu"), 1)


def _weight(value: int) -> int:
    return min(max(value, WEIGHTS[0]), WEIGHTS[1])


def _number(root: "Element", path: str) -> int:
    """Return the number at *path*; 0 where there is none, or no number."""
    text = (root.findtext(path) or "").strip()
    return int(text) if text.removeprefix("-").isdecimal() and len(text) < 20 else 0  # noqa: PLR2004 - digits
