# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cgroups in which a node's Slurm holds its jobs.

Slurm knows the new hierarchy, and the old ones, but refuses a machine that has both. Where the old
ones are, it gets one of them alone: a part of the freezer's, which is enough to find and to end all
processes of a job, whoever their parents are. It sees that part where its settings say, and the
rest of the machine's hierarchy is not mounted in the node.

Limits of memory and processors are no part of this.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.systemd.container import Container, remove_cgroup

FREEZER: Final = Path("/sys/fs/cgroup/freezer")
"""Where a machine with old hierarchies has it."""

MOUNT: Final = """
set -e
mkdir -p /run/whole /run/cgroups/freezer
mount -t cgroup -o freezer freezer /run/whole
mount --bind "/run/whole/$1" /run/cgroups/freezer
umount /run/whole
"""

CONFINED: Final = """\
CgroupPlugin=cgroup/v1
CgroupMountpoint=/run/cgroups
ConstrainCores=no
ConstrainRAMSpace=no
ConstrainDevices=no
"""

NOT_CONFINED: Final = "CgroupPlugin=disabled\n"


@contextmanager
def own_cgroup(name: str) -> Iterator[str]:
    """Make a cgroup *name* for a node, and remove it when the node is off. Yield "" without one."""
    if not FREEZER.is_dir():
        yield ""
        return
    (FREEZER / name).mkdir()
    try:
        yield name
    finally:
        remove_cgroup(FREEZER / name)


def confine(system: Container, cgroup: str) -> str:
    """Let Slurm on *system* use *cgroup*, if there is one, and return its ProctrackType."""
    system.write("/etc/slurm/cgroup.conf", CONFINED if cgroup else NOT_CONFINED)
    if not cgroup:
        return "proctrack/linuxproc"
    system.check("sh", "-c", MOUNT, "sh", cgroup)
    return "proctrack/cgroup"
