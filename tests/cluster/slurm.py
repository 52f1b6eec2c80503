# SPDX-License-Identifier: LGPL-2.1-or-later
"""Slurm on booted nodes: one controller on the first node, slurmd on all."""

from collections.abc import Sequence
from typing import Final

from tests.cluster.confinement import confine
from tests.cluster.nodes import Node

CONFIGURATION: Final = """\
ClusterName=bpferry
SlurmctldHost={controller}
SlurmUser=slurm
AuthType=auth/munge
StateSaveLocation=/var/lib/slurm/controller
SlurmdSpoolDir=/var/lib/slurm/node
SlurmctldLogFile=/var/log/slurmctld.log
SlurmdLogFile=/var/log/slurmd.log
ProctrackType={proctrack}
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
# More processors than there are: emulated guests share two.
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=15
KillWait={kill_wait}
MinJobAge=3600
# What may be preempted has some seconds, and the signal that it asked for.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PreemptParameters=send_user_signal
Include /etc/slurm/bpferry.conf
NodeName={nodes} CPUs=8 RealMemory=2000 State=UNKNOWN
PartitionName=vms Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime={grace}
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
"""

KILL_WAIT_S: Final = 30
"""Between SIGTERM and SIGKILL; Slurm's default."""

GRACE_S: Final = 60
"""What a VM has that a more urgent job preempts. Saving one of 32 MiB takes a second."""


def start_slurm(nodes: Sequence[Node]) -> None:
    """Start Slurm on *nodes*."""
    names = ",".join(node.name for node in nodes)
    for node in nodes:
        system = node.system
        text = CONFIGURATION.format(
            controller=nodes[0].name,
            nodes=names,
            kill_wait=KILL_WAIT_S,
            grace=GRACE_S,
            proctrack=confine(system, node.cgroup),
        )
        system.write("/etc/slurm/slurm.conf", text)
        gres = system.check("bpferry-helper", "slurm-gres")
        system.write("/etc/slurm/bpferry.conf", f"{gres}\n")
        system.check("install", "-d", "-o", "slurm", "/var/lib/slurm", "/var/lib/slurm/controller")
        system.check("install", "-o", "slurm", "/dev/null", "/var/log/slurmctld.log")
        system.check("systemctl", "start", "munge")
    nodes[0].system.check("systemctl", "start", "slurmctld")
    for node in nodes:
        node.system.check("systemctl", "start", "slurmd")
