# SPDX-License-Identifier: LGPL-2.1-or-later
"""Nodes of a cluster on one machine: booted systems whose bridges are joined.

Each node is a container with a systemd, a network of its own, both helpers, and a bridge br0. A
cable leads from each bridge to one outside, which is in a network namespace that only a process of
ours holds: this machine's own network has no part in it.
"""

import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from guest.netns import Namespace, bridged
from tests.cluster.confinement import own_cgroup
from tests.systemd.conftest import AS_ON_A_MACHINE, REPOSITORY
from tests.systemd.container import Container, boot
from tests.systemd.debian_root import debian_root
from tests.systemd.installation import install

RELEASE: Final = "trixie"

PACKAGES: Final = ("slurmctld", "slurmd", "slurm-client", "munge")
"""Beside what every booted system has: Slurm 24.11, and what its daemons know each other by."""

SERVICES: Final = ("slurmctld", "slurmd", "munge")
"""Which have no settings when a node boots."""

MTU: Final = 1500

USER: Final = "alice"
USER_ID: Final = 1500
"""The same on each node, as in a cluster with one directory of users."""

ADDRESSES: Final = ", ".join(f'"52:54:00:00:00:{task:02x}"' for task in range(1, 21))
"""Of the cards of tasks. Each on its own: a task that starts on another node than the last time has
an address that the bridge knows from its cable."""

POLICY: Final = f"""\
[groups.bpferry]
bridges = ["br0"]
taps = 2

[bridges.br0]
address-lock = true
addresses = [{ADDRESSES}]

[quota]
sets-per-user = 2
# A set that is ready would be no VM's, and the tests look whether any is left.
sets-ready = 0
"""
"""Little, so that a test soon has all of it."""


@dataclass(frozen=True, slots=True)
class Node:
    """One of them. Borrows the booted system."""

    name: str
    number: int
    """From 1."""
    system: Container
    cgroup: str = ""
    """In which its Slurm may hold jobs, if there is one."""

    @property
    def addresses(self) -> tuple[str, str]:
        """The addresses of its bridge."""
        return f"10.85.0.{self.number}", f"fd85::{self.number}"

    @property
    def has_power(self) -> bool:
        """Whether it runs."""
        return Path(f"/proc/{self.system.pid}").exists()

    @property
    def root(self) -> Path:
        """Its root folder, as this machine sees it."""
        return Path(f"/proc/{self.system.pid}/root")

    def user(self, *command: str, timeout: float = 60) -> str:
        """Let the user do *command*, which has to succeed, and return its output."""
        words = ("env", f"HOME=/home/{USER}", *command)
        return self.system.check(*words, user=USER, timeout=timeout)


@contextmanager
def booted_nodes(count: int, folder: Path) -> Iterator[tuple[Node, ...]]:
    """Boot *count* nodes, with their consoles' logs in *folder*, and halt them afterwards."""
    root = debian_root(RELEASE, PACKAGES, SERVICES)
    with ExitStack() as stack:
        outside = stack.enter_context(bridged("outside", ("10.85.0.254/24",), MTU))
        nodes = []
        for number in range(1, count + 1):
            name = f"node{number}"
            log = folder / f"{name}.log"
            own = f"bpferry-test-{secrets.token_hex(4)}"
            cgroup = stack.enter_context(own_cgroup(own))
            system = stack.enter_context(boot(root, REPOSITORY, log))
            nodes.append(Node(name, number, system, cgroup))
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(lambda node: _prepare(node, nodes), nodes))
        for node in nodes:
            _plug(node, outside)
        yield tuple(nodes)


def _prepare(node: Node, nodes: Sequence[Node]) -> None:
    """Install the project and make the user and the bridge."""
    system = node.system
    system.check("sh", "-c", AS_ON_A_MACHINE)
    system.check("hostname", node.name)
    install(system)
    system.check("useradd", "--uid", str(USER_ID), "--create-home", "--groups", "bpferry", USER)
    hosts = "".join(f"{other.addresses[0]} {other.name}\n" for other in nodes)
    system.write("/etc/hosts", f"127.0.0.1 localhost\n{hosts}")
    system.write("/etc/bpferry/policy.toml", POLICY)
    system.check("ip", "link", "set", "lo", "up")
    system.check("ip", "link", "add", "br0", "type", "bridge")
    for address, length in zip(node.addresses, (24, 64), strict=True):
        system.check("ip", "address", "add", f"{address}/{length}", "dev", "br0", "nodad")
    system.check("ip", "link", "set", "br0", "up")


def _plug(node: Node, outside: Namespace) -> None:
    """Put a cable between the bridge of *node* and the one *outside*."""
    cable = ["ip", "link", "add", node.name, "type", "veth"]
    outside.run([*cable, "peer", "name", "cable", "netns", str(node.system.pid)])
    outside.run(["ip", "link", "set", node.name, "master", "outside", "up"])
    node.system.check("ip", "link", "set", "cable", "master", "br0", "up")
