# SPDX-License-Identifier: LGPL-2.1-or-later
"""Limits on how much a disk may read and write: throttle groups and the nodes that ask them.

Disks of one group share its limits (qapi/qom.json, ThrottleGroupProperties). A disk has limits of
its own, which may be those of a group of disks, or it names groups of the VM.
"""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.context import Context
from bpferry.commandline.parts import Found, Option, json_of
from bpferry.domain.model.disks import Disk, Limits
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import Named, listed, named

LIMITS: Final = {
    f"{which}_{unit}_sec{after}": f"{short}-{which}{after.replace('_', '-')}"
    for which in ("total", "read", "write")
    for unit, short in (("bytes", "bps"), ("iops", "iops"))
    for after in ("", "_max", "_max_length")
} | {"size_iops_sec": "iops-size"}
"""The name of each limit here and in QEMU."""


def group_options(context: Context) -> Iterator[Found]:
    """Yield the groups that the disks belong to."""
    groups: dict[str, dict[str, int]] = {}
    for device in named(context.machine.disks, "disks", "disk"):
        throttle, group = device.value.throttle, _own_group(device, context.machine)
        if throttle is None or group is None:
            continue
        limits = _limits(throttle)
        if limits and groups.setdefault(group, limits) != limits:
            yield device.mistake(
                "throttle",
                f"another disk gives the group '{throttle.group}' other limits",
                "give both the same limits, or limits to one of them only",
            )
    known: set[str] = set()
    for shared in listed(context.machine.throttle_groups, "throttle-groups"):
        if shared.value.name in known:
            yield shared.mistake(
                "name",
                f"there is a group '{shared.value.name}' already",
                "give each group a name of its own",
            )
        known.add(shared.value.name)
        groups[_shared_id(shared.number)] = _limits(shared.value)
    for group, limits in groups.items():
        if limits:
            described = {"qom-type": "throttle-group", "id": group, "limits": limits}
            yield Option("-object", json_of(described))


def groups_of(device: Named[Disk], machine: Machine) -> tuple[str, ...]:
    """Return the ids of the groups of a disk, in the order of their nodes.

    Raises:
        Unsupported: it names a group that has no limits, or does not exist.
    """
    shared = tuple(_shared_groups(device, machine))
    own = _own_group(device, machine)
    if own is not None and device.value.throttle_groups:
        raise device.mistake(
            "throttle-groups",
            "the disk has limits of its own",
            "leave out the groups, or the limits",
        )
    return shared if own is None else (own,)


def _shared_groups(device: Named[Disk], machine: Machine) -> Iterator[str]:
    groups = {group.value.name: group for group in listed(machine.throttle_groups, "")}
    for name in device.parts("throttle-groups", device.value.throttle_groups):
        group = groups.get(name.value)
        if group is None:
            raise name.mistake(
                "", f"the VM has no group '{name.value}'", "add the group, or name another one"
            )
        if _limits(group.value):
            yield _shared_id(group.number)


def _own_group(device: Named[Disk], machine: Machine) -> str | None:
    """Return the id of the group that a disk's own limits belong to.

    It is made from the place of the first disk with these limits.
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
    raise device.mistake(
        "throttle.group",
        f"no disk gives the group '{throttle.group}' limits",
        "give a disk that is in the group limits, or take this one out of the group",
    )


def _shared_id(number: int) -> str:
    return f"throttle-group{number}"


def _group_id(device: Named[Disk]) -> str:
    """Return the id of the group that begins with a disk; a user's name may hold any character."""
    return f"throttle{device.number}"


def _limits(throttle: Limits) -> dict[str, int]:
    """Return the limits of *throttle* by QEMU's names; 0 means none."""
    values = {theirs: getattr(throttle, ours) for ours, theirs in LIMITS.items()}
    return {name: value for name, value in values.items() if value}
