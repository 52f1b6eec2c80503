# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM as a job of a Slurm that confines its jobs, by control groups v2 with all controllers.

The host is controller and node. The nodes of tests/cluster have no controllers to give to a job.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from tests.support.client_environment import REPOSITORY
from tests.vm.freight import CLONE
from tests.vm.host import IN_THE_HOST, Host
from tests.vm.image import SLURM
from tests.vm.user import PATIENCE_S, User, learn, wait_until

pytestmark = [*IN_THE_HOST, pytest.mark.qemu]

PAGE: Final = REPOSITORY / "docs/clusters.md"

CONFIGURATION: Final = """\
ClusterName=bpferry
SlurmctldHost={name}(127.0.0.1)
SlurmUser=slurm
AuthType=auth/munge
StateSaveLocation=/var/lib/slurm/controller
SlurmdSpoolDir=/var/lib/slurm/node
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# An emulated host needs minutes for what takes a second elsewhere.
MessageTimeout=100
SlurmdTimeout=0
KillWait=600
MinJobAge=36000
Include /etc/slurm/bpferry.conf
NodeName={name} NodeAddr=127.0.0.1 CPUs=1 RealMemory=1500 State=UNKNOWN
PartitionName=vms Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

CONFINED: Final = """\
CgroupPlugin=cgroup/v2
ConstrainRAMSpace=yes
ConstrainCores=yes
ConstrainDevices=yes
SystemdTimeout=60000
"""

SLICE: Final = "/sys/fs/cgroup/system.slice"
"""Where systemd makes a scope for Slurm, in which that makes the groups of jobs."""

LIMIT_MIB: Final = 320
"""Less than the guest's memory, and more than a VM takes whose guest is content with little."""

VM: Final = """\
name = "job"
variables = ["kind"]
memory = "512 MiB"
vcpus = 2
accelerator = "tcg"
require-ebpf = true

[[serials]]
type = "stdio"

[[disks]]
file = "${kind}.img"
format = "raw"

[[cards]]
bridge = "br0"
queues = 2
rss = true
"""

SCRIPT: Final = """\
#!/bin/sh
exec bpferry run --set kind="$1" job.toml
"""

MAKE: Final = f"""
import sys
from pathlib import Path
sys.path.append("{CLONE}")
from tests.client import guest
guest.write_obedient_disk(Path("polite.img"))
guest.write_greedy_disk(Path("greedy.img"))
"""

GREETING: Final = "hello from the boot sector"


@dataclass(frozen=True, slots=True)
class Jobs:
    """VMs of alice's as jobs."""

    alice: User
    scope: str
    """The folder with the groups of the jobs."""

    def submit(self, kind: str) -> int:
        """Submit a VM with the guest of this *kind*, and return the job's number."""
        gres = "--gres=bpferry_taps:1,bpferry_queues:2,bpferry_sets:1"
        words = ("sbatch", "--parsable", f"--mem={LIMIT_MIB}M", gres, "--output=%j.log")
        return int(self.alice.check(*words, "job.sh", kind))

    def wait_for(self, job: int, state: str) -> None:
        """Return when *job* is in this *state*."""
        words = ("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T")
        reached = wait_until(lambda: self.alice.run(*words).output.strip() == state)
        assert reached, (self.alice.run(*words), self.output(job))

    def output(self, job: int) -> str:
        """Return what *job* has written."""
        return self.alice.run("cat", f"{job}.log").output

    def processes(self, *options: str) -> set[str]:
        """Return what ps says of each process of alice's."""
        # As root: an own ps would be one of them.
        done = self.alice.host.run("ps", "--no-headers", "-u", self.alice.name, *options)
        return set(done.output.split())

    def left(self) -> tuple[str, bool, bool, set[str], str]:
        """Return what is there of VMs: ports, taps, sets, processes, and Slurm's groups of jobs."""
        host = self.alice.host
        alive = host.check("bpferry-helper", "status")
        return (
            host.check("ip", "-oneline", "link", "show", "master", "br0"),
            "no tap is alive" not in alive,
            "no set is alive" not in alive,
            self.processes("-o", "comm="),
            host.check("find", self.scope, "-maxdepth", "1", "-name", "job_*"),
        )


NOTHING: Final = ("", False, False, set[str](), "")


@pytest.fixture(scope="module")
def slurm(host: Host) -> Iterator[Host]:
    """Return the host with Slurm on it."""
    name = host.check("hostname", "--short")
    host.write("/etc/slurm/slurm.conf", CONFIGURATION.format(name=name))
    host.write("/etc/slurm/cgroup.conf", CONFINED)
    gres = host.check("bpferry-helper", "slurm-gres")
    host.write("/etc/slurm/bpferry.conf", f"{gres}\n")
    host.check("install", "-d", "-o", "slurm", "/var/lib/slurm", "/var/lib/slurm/controller")
    host.check("systemctl", "start", *SLURM, timeout=PATIENCE_S)
    yield host
    host.check("systemctl", "stop", *SLURM, timeout=PATIENCE_S)


@pytest.fixture
def jobs(slurm: Host) -> Iterator[Jobs]:
    """Return the jobs of alice's; each test has to leave nothing of them."""
    learn(slurm, "alice")
    alice = User(slurm, "alice")
    for path, text in (("job.toml", VM), ("job.sh", SCRIPT)):
        slurm.write(f"/home/alice/{path}", text)
    alice.check("python3", "-B", "-c", MAKE)
    jobs = Jobs(alice, f"{SLICE}/{slurm.check('hostname', '--short')}_slurmstepd.scope")
    yield jobs
    alice.run("scancel", "--user=alice")
    assert wait_until(lambda: jobs.left() == NOTHING), jobs.left()


def test_page_has_what_confines_here() -> None:
    """The lines for the administrator are those of the host."""
    page = PAGE.read_text()
    (slurm,) = re.findall(r"^```\n(ProctrackType.*?)^```", page, re.MULTILINE | re.DOTALL)
    (cgroup,) = re.findall(r"^```\n(Constrain.*?)^```", page, re.MULTILINE | re.DOTALL)

    assert set(slurm.splitlines()) <= set(CONFIGURATION.splitlines())
    assert set(cgroup.splitlines()) <= set(CONFINED.splitlines())


def test_limits_of_a_job_hold_all_of_its_vm(jobs: Jobs) -> None:
    """QEMU, bpferry and all beside them are in a group with the job's memory and processors."""
    host = jobs.alice.host
    job = jobs.submit("polite")
    group = f"{jobs.scope}/job_{job}"
    assert wait_until(lambda: GREETING in jobs.output(job)), jobs.output(job)
    files = host.check("find", group, "-name", "cgroup.procs")
    confined = set(host.check("cat", *files.split()).split())

    assert {"bpferry", "qemu-system-x86"} <= jobs.processes("-o", "comm=")
    assert jobs.processes("-o", "pid=") <= confined
    assert str(LIMIT_MIB << 20) == host.check("cat", f"{group}/memory.max")
    # The host has only the one. The group above has no such list.
    cpus = [host.check("cat", f"{path}/cpuset.cpus") for path in (jobs.scope, group)]
    assert ["", "0"] == cpus
    jobs.alice.check("scancel", str(job))
    jobs.wait_for(job, "CANCELLED")
    assert "powering down" in jobs.output(job)


def test_devices_for_vms_are_a_job_s_too(jobs: Jobs) -> None:
    """Devices are held back only if Slurm hands them out, and bpferry's are counted without one."""
    opens = "".join(f": <>/dev/{name}; " for name in ("kvm", "vhost-net", "net/tun"))
    words = ("sh", "-ec", f"{opens}cat /proc/self/cgroup")
    done = jobs.alice.run("srun", f"--mem={LIMIT_MIB}M", *words)

    assert "/job_" in done.output, done.errors


def test_vm_that_takes_more_than_its_job_has_is_ended(jobs: Jobs) -> None:
    """By the kernel, which takes QEMU and nothing else; Slurm and bpferry say why."""
    job = jobs.submit("greedy")
    jobs.wait_for(job, "OUT_OF_MEMORY")
    said = jobs.output(job)
    kernel = jobs.alice.host.check("journalctl", "--dmesg", "--output=cat", timeout=PATIENCE_S)
    killed = [line for line in kernel.splitlines() if line.startswith("oom-kill:")]

    assert GREETING in said
    assert "QEMU was killed by SIGKILL" in said
    assert 1 == len(killed)
    assert "constraint=CONSTRAINT_MEMCG" in killed[0]
    assert f"/job_{job}/" in killed[0]
    assert "task=qemu-system-x86" in killed[0]
