# SPDX-License-Identifier: LGPL-2.1-or-later
"""A node that loses its power. The last of these tests: the node stays off."""

from typing import Final

import pytest

from tests.cluster.jobs import POLITE, Cluster, power_off
from tests.support.census import wait_until

pytestmark = [pytest.mark.privileged, pytest.mark.kernel, pytest.mark.qemu]

NOTICE_S: Final = 180.0
"""Slurm needs some rounds of asking until it takes a node for dead."""


def test_vm_of_a_node_without_power_starts_on_another(cluster: Cluster) -> None:
    """Slurm requeues the job, and the same script starts the VM where there is power."""
    first, last = cluster.nodes[0], cluster.nodes[-1]
    slurm = first.system
    others = ",".join(node.name for node in cluster.nodes[:-1])
    slurm.check("scontrol", "update", f"nodename={others}", "state=drain", "reason=test")
    job, (task,) = cluster.start(POLITE, "1", "--requeue")
    slurm.check("scontrol", "update", f"nodename={others}", "state=resume")
    assert last.name == task.node

    power_off(last)
    assert wait_until(lambda: "PENDING" in cluster.states(job), NOTICE_S, pause_s=0.5)
    slurm.check("scontrol", "update", f"jobid={job}_1", "starttime=now")
    (task,) = cluster.wait_for(job, "RUNNING")
    cluster.wait_until_vms_run([task])

    assert last.name != task.node
    cluster.cancel(job)
