# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMs as a user's jobs, and what nodes have of them."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from guest.build import CACHE, KERNEL_ARGUMENTS, build_guest
from guest.console import Console
from tests.client import guest
from tests.cluster.nodes import USER, Node
from tests.support.census import wait_until
from tests.systemd.conftest import REPOSITORY

FOLDER: Final = "/srv/cluster"

SCRIPT: Final = f"""\
#!/bin/sh
disk=/tmp/web-$SLURM_ARRAY_TASK_ID.qcow2
qemu-img create -q -f qcow2 -F raw -b {FOLDER}/$1.img "$disk"
exec bpferry run --name web-%a --set disk="$disk" {FOLDER}/$1.toml
"""
"""The job: three lines around ``bpferry run``."""

PAGE: Final = REPOSITORY / "docs/clusters.md"

PLACES: Final = {
    "/srv/vms/": "/tmp/",
    "-F qcow2 -b /srv/images/debian.qcow2": f"-F raw -b {FOLDER}/polite.img",
    " vm.toml": f" {FOLDER}/polite.toml",
}
"""What is elsewhere than the page's second script says, which saves its VM if it is preempted."""

DESCRIPTION: Final = """\
variables = ["SLURM_ARRAY_TASK_ID", "disk"]
memory = "{memory}"
vcpus = 2
accelerator = "tcg"
require-ebpf = true
{more}
[[disks]]
file = "${{disk}}"
format = "qcow2"

[[cards]]
bridge = "br0"
queues = 2
rss = true
mac = "52:54:00:00:00:${{SLURM_ARRAY_TASK_ID:02x}}"

[[serials]]
type = "stdio"
"""

POLITE: Final = "polite"
"""Its guest powers down when it is asked to."""

DEAF: Final = "deaf"
"""Its guest does not react, and may take longer for that than Slurm waits."""

SAVING: Final = "saving"
"""The same guest as POLITE's; its job saves it when it is preempted."""

LINUX: Final = "linux"
"""Its guest sends and records packets."""

GRES: Final = "--gres=bpferry_taps:1,bpferry_queues:2,bpferry_sets:1"
"""What each of them has."""

PATIENCE_S: Final = 120.0
"""Slurm looks at some things every 30 s only, and emulated guests share the processors."""

END_S: Final = 20.0
"""When a job has ended, all that its VM had is gone after a moment."""

BOOT_S: Final = 200.0
"""Longer than a guest's kernel waits until it says that an interrupt never came."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task of an array, as squeue shows it."""

    number: int
    state: str
    """Such as RUNNING."""
    node: str
    """Empty while it waits."""
    reason: str


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes with Slurm. Borrows them."""

    nodes: tuple[Node, ...]

    @property
    def controller(self) -> Node:
        """Where jobs are submitted."""
        return self.nodes[0]

    def submit(self, kind: str, array: str, *options: str) -> int:
        """Submit an array of VMs of this *kind* as the user, and return the job's number."""
        words = ("sbatch", "--parsable", f"--array={array}", "--output=/tmp/%A-%a.log", *options)
        script = ("saving-vm.sh",) if kind == SAVING else ("vm.sh", kind)
        said = self.controller.user(*words, f"{FOLDER}/{script[0]}", *script[1:])
        return int(said.partition(";")[0])

    def tasks(self, job: int) -> list[Task]:
        """Return the tasks of *job*, by number, those that have ended too."""
        form = "%K|%T|%N|%r"
        words = ("squeue", "--noheader", "--array", "--states=all", f"--jobs={job}", "-o", form)
        rows = (line.split("|") for line in self.controller.user(*words).splitlines())
        found = [Task(int(number), *rest) for number, *rest in rows]
        return sorted(found, key=lambda task: task.number)

    def states(self, job: int) -> list[str]:
        """Return the state of each task of *job*."""
        return [task.state for task in self.tasks(job)]

    def wait_for(self, job: int, *states: str, seconds: float = PATIENCE_S) -> list[Task]:
        """Return the tasks of *job* when they have these *states*, by number."""
        reached = wait_until(lambda: self.states(job) == list(states), seconds, pause_s=0.5)
        assert reached, [(task, self.output_of(job, task)) for task in self.tasks(job)]
        return self.tasks(job)

    def start(self, kind: str, array: str, *options: str) -> tuple[int, list[Task]]:
        """Submit an array of VMs that all find a place; return it when their guests greet."""
        job = self.submit(kind, array, GRES, *options)
        tasks = self.wait_for(job, *["RUNNING"] * len(self.states(job)))
        self.wait_until_greeted(job, tasks)
        return job, tasks

    def wait_until_greeted(self, job: int, tasks: Sequence[Task]) -> None:
        """Return when the guests of *tasks* of *job*, which run, have written their first line."""
        for task in tasks:
            up = wait_until(partial(self._greets, job, task), PATIENCE_S, pause_s=0.2)
            assert up, self.output_of(job, task)

    def _greets(self, job: int, task: Task) -> bool:
        return guest.GREETING.decode().strip() in self.output_of(job, task)

    def wait_until_vms_run(self, tasks: Sequence[Task]) -> None:
        """Return when QEMU runs the guests of *tasks*, which have nodes."""
        for task in tasks:
            up = wait_until(partial(self._runs, task), PATIENCE_S, pause_s=0.5)
            assert up, (task, vms(self.node(task.node)))

    def _runs(self, task: Task) -> bool:
        return vms(self.node(task.node)).get(f"web-{task.number}") == "running"

    def output_of(self, job: int, task: Task) -> str:
        """Return what *task* of *job* has written so far."""
        if not task.node:
            return ""
        path = self.node(task.node).root / f"tmp/{job}-{task.number}.log"
        return path.read_text() if path.exists() else ""

    def node(self, name: str) -> Node:
        """Return the node of this *name*."""
        return next(node for node in self.nodes if node.name == name)

    def cancel(self, job: int) -> None:
        """Cancel *job*, and return when none of it is left."""
        self.controller.user("scancel", str(job))
        ended = wait_until(lambda: {"CANCELLED"} >= set(self.states(job)), PATIENCE_S, 0.5)
        assert ended, self.tasks(job)

    def is_idle(self) -> bool:
        """Say whether no node that has power has anything left of a VM."""
        return all(held(node) == NOTHING for node in self.nodes if node.has_power)


@dataclass(frozen=True, slots=True)
class Held:
    """What a node has of VMs."""

    ports: tuple[str, ...] = ()
    """Of its bridge, but for the cable."""
    grants: tuple[str, ...] = ("no set is alive", "no tap is alive")
    """As its helpers say."""
    processes: tuple[str, ...] = ()
    """The user's. Locks of VMs end with them."""


NOTHING: Final = Held()


def held(node: Node) -> Held:
    """Return what *node* has of VMs now."""
    links = json.loads(node.system.check("ip", "-json", "link", "show", "master", "br0"))
    names = sorted(link["ifname"] for link in links if link)
    said = node.system.check("bpferry-helper", "status").splitlines()
    processes = node.system.run("ps", "-u", USER, "-o", "comm=").stdout.split()
    return Held(
        tuple(name for name in names if name != "cable"),
        tuple(line for line in said if line),
        tuple(sorted(processes)),
    )


def vms(node: Node) -> dict[str, str]:
    """Return the state of each VM that the user has on *node*, by name."""
    listed = json.loads(node.user("bpferry", "list", "--json"))
    return {vm["name"]: vm["state"] for vm in listed["vms"]}


def bring_jobs(node: Node) -> None:
    """Put onto *node* what the jobs need: script, descriptions, images, a kernel."""
    folder = node.root / FOLDER.lstrip("/")
    folder.mkdir(parents=True)
    guest.write_obedient_disk(folder / f"{POLITE}.img")
    guest.write_disk(folder / f"{DEAF}.img")
    guest.write_disk(folder / f"{LINUX}.img")
    built = build_guest(CACHE, print)
    for path in (built.kernel, built.initrd):
        shutil.copy(path, folder / path.name)
    boots = (
        f'kernel = "{FOLDER}/kernel"\ninitrd = "{FOLDER}/initrd"\n'
        f'command-line = "{KERNEL_ARGUMENTS} panic=-1"\n'
    )
    kinds = {POLITE: ("32 MiB", ""), DEAF: ("32 MiB", "stop-timeout = 600\n")}
    for kind, (memory, more) in (kinds | {LINUX: ("256 MiB", boots)}).items():
        (folder / f"{kind}.toml").write_text(DESCRIPTION.format(memory=memory, more=more))
    (folder / "vm.sh").write_text(SCRIPT)
    (folder / "saving-vm.sh").write_text(saving_script())


def saving_script() -> str:
    """Return the page's script that saves its VM, with what is elsewhere here."""
    scripts = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    text = str(scripts[1])
    for there, here in PLACES.items():
        assert there in text, there
        text = text.replace(there, here)
    return text


@contextmanager
def console_of(node: Node, name: str) -> Iterator[Console]:
    """Let the user be at the console of the VM *name*, whose guest answers."""
    words = ("env", f"HOME=/home/{USER}", "bpferry", "console", name)
    with node.system.running(*words, user=USER) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        console = Console(process.stdout, process.stdin)
        console.wait_until_ready(BOOT_S)
        yield console


def power_off(node: Node) -> None:
    """Cut the power of *node*."""
    subprocess.run(["kill", "-KILL", str(node.system.pid)], check=True)
