# SPDX-License-Identifier: LGPL-2.1-or-later
"""An ordinary user's VMs as jobs of Slurm, from sbatch to the last process.

Each test ends with nothing of a VM on any node: no tap, no set, no process (the fixture).
"""

import json
import re
import shlex
import time
from typing import Final

import pytest

from tests import requires
from tests.client import guest
from tests.cluster.jobs import DEAF, GRES, PAGE, PATIENCE_S, POLITE, SAVING, Cluster, held, vms
from tests.cluster.nodes import USER, USER_ID
from tests.cluster.slurm import CONFIGURATION, GRACE_S, KILL_WAIT_S
from tests.support.census import wait_until

pytestmark = [pytest.mark.privileged, pytest.mark.kernel, pytest.mark.qemu]

LOOKS_S: Final = 30
"""Slurm compares all jobs with their limits so often."""

OF_AN_ADDRESS: Final = re.compile(r"^ +(scontrol .* comment=.*)\n +(squeue .*)$", re.MULTILINE)
"""The page's two lines: what a task writes, and what its user asks."""


def test_group_and_user_arrive_in_the_job(cluster: Cluster) -> None:
    """A job has the user's uid and the groups that the user has on the controller."""
    said = cluster.controller.user("srun", f"--nodelist={cluster.nodes[-1].name}", "id")

    assert f"uid={USER_ID}({USER})" in said
    assert "(bpferry)" in said


def test_array_fills_the_nodes_as_the_policy_allows(cluster: Cluster) -> None:
    """Slurm places two VMs on each node, as the policy does; one more waits until one has ended."""
    room = 2 * len(cluster.nodes)
    job = cluster.submit(POLITE, f"1-{room + 1}", GRES)
    *placed, last = cluster.wait_for(job, *["RUNNING"] * room, "PENDING")
    cluster.wait_until_greeted(job, placed)

    assert ("", "Resources") == (last.node, last.reason)
    assert [2] * len(cluster.nodes) == [len(held(node).ports) for node in cluster.nodes]
    cluster.controller.user("scancel", f"{job}_1")
    cluster.wait_for(job, "CANCELLED", *["RUNNING"] * room)
    cluster.cancel(job)


def test_session_of_who_submits_is_not_on_the_node(cluster: Cluster) -> None:
    """A job has all variables of sbatch, also the folder of a session that only one host has."""
    session = f"XDG_RUNTIME_DIR=/run/user/{USER_ID}"
    job, (task,) = cluster.start(POLITE, "1", f"--export=ALL,{session}")

    assert {"web-1": "running"} == vms(cluster.node(task.node))
    cluster.cancel(job)


def test_name_disk_and_address_follow_from_the_task(cluster: Cluster) -> None:
    """One script and one description make VMs that differ."""
    job, tasks = cluster.start(POLITE, "11-12")
    for task in tasks:
        node = cluster.node(task.node)
        said = node.user("bpferry", "status", f"web-{task.number}", "--json")
        (card,) = json.loads(said)["cards"]

        assert f"52:54:00:00:00:{task.number:02x}" == card["mac"]
        assert f"/tmp/web-{task.number}.qcow2" in said
        assert "steering by eBPF" in cluster.output_of(job, task)
    cluster.cancel(job)


def test_squeue_tells_the_address_of_a_vm(cluster: Cluster) -> None:
    """As the page says it: a task writes it into its comment, and its user reads it there."""
    told, asked = OF_AN_ADDRESS.findall(PAGE.read_text())[0]
    words = ("sbatch", "--parsable", "--array=3", "--output=/dev/null")
    job = int(cluster.controller.user(*words, f"--wrap={told}; sleep 600"))
    (task,) = cluster.wait_for(job, "RUNNING")
    row = f"{job}_3 {task.node} 10.85.0.103"

    assert wait_until(lambda: row in cluster.controller.user(*shlex.split(asked)), PATIENCE_S, 0.5)
    cluster.cancel(job)


def test_qemu_is_in_the_job_s_cgroup(cluster: Cluster) -> None:
    """Slurm ends whatever is in it, also a process that has left its parent."""
    requires.old_cgroups()
    job, (task,) = cluster.start(POLITE, "1")
    node = cluster.node(task.node)
    (pid,) = node.system.check("pgrep", "--newest", "qemu-system").splitlines()
    cgroups = node.system.check("cat", f"/proc/{pid}/cgroup").splitlines()

    (freezer,) = (line.split(":")[2] for line in cgroups if line.split(":")[1] == "freezer")
    assert freezer.endswith("/step_batch")
    assert f"/{node.cgroup}/slurm_{node.name}/uid_{USER_ID}/job_" in freezer
    cluster.cancel(job)


def test_quota_is_each_node_s(cluster: Cluster) -> None:
    """Who has all taps of one node gets none there, and still has those of another node."""
    first, second = cluster.nodes[:2]
    job, _ = cluster.start(POLITE, "1-2", f"--nodelist={first.name}")
    create = ("bpferry", "tap", "create", "br0", "--mac", "52:54:00:00:00:14", "--json")
    full = first.system.run(*create, user=USER)
    tap = json.loads(second.user(*create))
    second.user("bpferry", "tap", "delete", tap["interface"])

    assert 4 == full.returncode
    assert "holds 2 taps, as many as policy allows" in full.stdout
    cluster.cancel(job)


def test_cancelled_guest_powers_down(cluster: Cluster) -> None:
    """Slurm's SIGTERM presses the power button: the guest has the time until SIGKILL."""
    job, (task,) = cluster.start(POLITE, "1")
    started = time.monotonic()
    cluster.cancel(job)

    assert time.monotonic() - started < KILL_WAIT_S
    assert "powering down" in cluster.output_of(job, task)


def test_time_limit_ends_a_guest_that_does_not_react(cluster: Cluster) -> None:
    """At its limit a job gets SIGTERM, and then SIGKILL: QEMU goes, and its tap and set with it."""
    job, (task,) = cluster.start(DEAF, "1", "--time=1")

    assert 1 == len(held(cluster.node(task.node)).ports)
    # A limit is a minute at least. An administrator brings the end that follows from it forward.
    cluster.controller.system.check("scontrol", "update", f"jobid={job}_1", "endtime=now")
    cluster.wait_for(job, "TIMEOUT", seconds=LOOKS_S + KILL_WAIT_S + PATIENCE_S)
    assert "asked the guest to power down" in cluster.output_of(job, task)


def test_drained_node_keeps_its_vms_and_gets_no_more(cluster: Cluster) -> None:
    """An administrator who drains a node waits for its VMs; the next one goes elsewhere."""
    first = cluster.nodes[0]
    job, _ = cluster.start(POLITE, "1", f"--nodelist={first.name}")
    update = ("scontrol", "update", f"nodename={first.name}")
    cluster.controller.system.check(*update, "state=drain", "reason=test")
    try:
        other, (task,) = cluster.start(POLITE, "2")

        assert first.name != task.node
        assert {"web-1": "running"} == vms(first)
    finally:
        cluster.controller.system.check(*update, "state=resume")
    cluster.cancel(job)
    cluster.cancel(other)


def test_vm_outlives_its_slurmd(cluster: Cluster) -> None:
    """A slurmd that is killed takes no VM with it, and its successor can cancel the VM."""
    node = cluster.nodes[-1]
    job, _ = cluster.start(POLITE, "1", f"--nodelist={node.name}")
    node.system.check("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "slurmd")
    node.system.wait_for_state("slurmd", "failed")

    assert {"web-1": "running"} == vms(node)
    node.system.check("systemctl", "start", "slurmd")
    cluster.cancel(job)


def test_page_names_what_preempts_here() -> None:
    """The lines for the administrator are those of the nodes."""
    (block,) = re.findall(r"^```\n(Preempt.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)

    for line in block.splitlines():
        assert line in CONFIGURATION.replace("{grace}", str(GRACE_S))


def test_preempted_vm_is_saved_and_goes_on(cluster: Cluster) -> None:
    """A more urgent job takes the node; then the VM's guest goes on where it was."""
    node = cluster.nodes[-1]
    here = f"--nodelist={node.name}"
    job = cluster.submit(SAVING, "1", GRES, here)
    (task,) = cluster.wait_for(job, "RUNNING")
    cluster.wait_until_greeted(job, [task])
    whole = ("--gres=bpferry_taps:2", "--partition=urgent", "--output=/dev/null", here)
    urgent = int(cluster.controller.user("sbatch", "--parsable", *whole, "--wrap=sleep 5"))
    cluster.wait_for(job, "PENDING")
    saved = node.root / "tmp/web-1.saved"
    assert saved.exists(), cluster.output_of(job, task)
    done = ("squeue", "--noheader", "--states=COMPLETED", f"--jobs={urgent}")
    assert wait_until(lambda: cluster.controller.user(*done) != "", PATIENCE_S, pause_s=0.5)
    cluster.controller.system.check("scontrol", "update", f"jobid={job}_1", "starttime=now")
    (task,) = cluster.wait_for(job, "RUNNING")
    cluster.wait_until_vms_run([task])

    cluster.cancel(job)
    said = cluster.output_of(job, task)
    assert said.index(guest.GREETING.decode().strip()) < said.index("the VM continues")
    # Had it booted again, it would have greeted again.
    assert 1 == said.count(guest.GREETING.decode().strip())
    assert 1 == said.count("powering down")
    assert said.index("the VM continues") < said.index("powering down")
    for path in (saved, node.root / "tmp/web-1.qcow2"):
        path.unlink()


def test_requeued_vm_runs_again(cluster: Cluster) -> None:
    """A VM that is requeued powers down, and starts again from the same script."""
    job, (task,) = cluster.start(POLITE, "1", "--requeue")
    tap = held(cluster.node(task.node)).ports
    cluster.controller.system.check("scontrol", "requeue", f"{job}_1")
    cluster.wait_for(job, "PENDING")
    assert wait_until(cluster.is_idle, KILL_WAIT_S, 0.5)
    # Slurm holds a requeued job back for two minutes, unless it is told otherwise.
    cluster.controller.system.check("scontrol", "update", f"jobid={job}_1", "starttime=now")
    (task,) = cluster.wait_for(job, "RUNNING")
    cluster.wait_until_vms_run([task])

    assert tap != held(cluster.node(task.node)).ports
    cluster.cancel(job)
