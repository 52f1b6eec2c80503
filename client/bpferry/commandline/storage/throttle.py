# SPDX-License-Identifier: LGPL-2.1-or-later
"""Limits on how much a disk may read and write: throttle groups and the nodes that ask them.

Disks of one group share its limits (qapi/qom.json, ThrottleGroupProperties).
"""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.context import unsupported
from bpferry.commandline.parts import Option, json_of
from bpferry.domain.model.disks import Throttle
from bpferry.domain.model.machine import Machine

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
    for index, disk in enumerate(machine.disks):
        group = group_of(machine, index)
        if disk.throttle is None or group is None:
            continue
        limits = _limits(disk.throttle)
        if limits and groups.setdefault(group, limits) != limits:
            raise unsupported(
                f"disks[{index}].throttle",
                f"another disk gives the group '{disk.throttle.group}' other limits",
            )
    for group, limits in groups.items():
        described = {"qom-type": "throttle-group", "id": group, "limits": limits}
        yield Option("-object", json_of(described))


def group_of(machine: Machine, index: int) -> str | None:
    """Return the id of the group of disk *index*: the number of the first disk with its limits.

    Raises:
        Unsupported: it names a group that no disk gives limits.
    """
    throttle = machine.disks[index].throttle
    if throttle is None:
        return None
    if throttle.group is None:
        return f"throttle{index}" if _limits(throttle) else None
    for first, disk in enumerate(machine.disks):
        other = disk.throttle
        if other is not None and other.group == throttle.group and _limits(other):
            return f"throttle{first}"
    raise unsupported(
        f"disks[{index}].throttle.group", f"no disk gives the group '{throttle.group}' limits"
    )


def _limits(throttle: Throttle) -> dict[str, int]:
    """Return the limits of *throttle* by QEMU's names; 0 means none."""
    values = {theirs: getattr(throttle, ours) for ours, theirs in LIMITS.items()}
    return {name: value for name, value in values.items() if value}
