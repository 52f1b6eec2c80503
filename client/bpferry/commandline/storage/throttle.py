# SPDX-License-Identifier: LGPL-2.1-or-later
"""Limits on how much a disk may read and write: throttle groups and the nodes that ask them.

Disks of one group share its limits (qapi/qom.json, ThrottleGroupProperties).
"""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.parts import Option, json_of
from bpferry.domain.model.disks import Disk, Throttle
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import Named, named

LIMITS: Final = {
    f"{which}_{unit}_sec{after}": f"{short}-{which}{after.replace('_', '-')}"
    for which in ("total", "read", "write")
    for unit, short in (("bytes", "bps"), ("iops", "iops"))
    for after in ("", "_max", "_max_length")
} | {"size_iops_sec": "iops-size"}
"""The name of each limit here and in QEMU."""


def group_options(machine: Machine) -> Iterator[Option]:
    """Yield the groups that the disks of *machine* belong to.

    Raises:
        Unsupported: a group without limits, or with different ones.
    """
    groups: dict[str, dict[str, int]] = {}
    for device in named(machine.disks, "disks", "disk"):
        throttle, group = device.value.throttle, group_of(device, machine)
        if throttle is None or group is None:
            continue
        limits = _limits(throttle)
        if limits and groups.setdefault(group, limits) != limits:
            raise device.refusal(
                "throttle", f"another disk gives the group '{throttle.group}' other limits"
            )
    for group, limits in groups.items():
        described = {"qom-type": "throttle-group", "id": group, "limits": limits}
        yield Option("-object", json_of(described))


def group_of(device: Named[Disk], machine: Machine) -> str | None:
    """Return the id of the group of a disk, made from the place of the first disk with its limits.

    Raises:
        Unsupported: it names a group that no disk gives limits.
    """
    throttle = device.value.throttle
    if throttle is None:
        return None
    if throttle.group is None:
        return _group_id(device) if _limits(throttle) else None
    for first in named(machine.disks, "disks", "disk"):
        other = first.value.throttle
        if other is not None and other.group == throttle.group and _limits(other):
            return _group_id(first)
    raise device.refusal("throttle.group", f"no disk gives the group '{throttle.group}' limits")


def _group_id(device: Named[Disk]) -> str:
    """Return the id of the group that begins with a disk; one of the user's may hold any sign."""
    return f"throttle{device.number}"


def _limits(throttle: Throttle) -> dict[str, int]:
    """Return the limits of *throttle* by QEMU's names; 0 means none."""
    values = {theirs: getattr(throttle, ours) for ours, theirs in LIMITS.items()}
    return {name: value for name, value in values.items() if value}
