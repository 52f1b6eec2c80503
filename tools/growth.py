# SPDX-License-Identifier: LGPL-2.1-or-later
"""What many VMs on many nodes ask of each part, and which part ends first; on paper.

    python3 tools/growth.py [--nodes N] [--vms N] [--wave N]

Limits come from the code and from the defaults of schedulers, times from what this repository has
measured; each is printed with its source. Nothing is started. docs/growth.md has the output.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

if __name__ == "__main__":
    CLONE = Path(__file__).resolve().parents[1]
    sys.path += [str(CLONE / part) for part in ("shared", "helper", "client")]

from bpferry.network.connection import ANSWER_SECONDS
from bpferry_helper.bpf.pool import MAX_OBJECTS
from bpferry_helper.bpf.trust import MAX_REMEMBERED
from bpferry_helper.policy import rules

NODES: Final = 1000
VMS: Final = 20
"""On each node; each has one card with a set, and so one tap."""
WAVE: Final = 50
"""Nodes whose QEMU is upgraded at a time."""

STOP_S: Final = 90
"""What guests have to power down, as in docs/kubernetes/base/vm.sh."""

BRIDGE_PORTS: Final = 1023
ADDRESS_BITS: Final = 46


@dataclass(frozen=True, slots=True)
class Figure:
    """What one thing costs, as measured."""

    what: str
    number: float
    source: str
    """The file that has it."""
    words: str
    """How it stands there."""


LOAD_S: Final = Figure(
    "seconds of a processor to load a set", 0.07,
    "docs/decisions/0042-sets-that-are-loaded-ahead.md", "verifier 70 ms",
)  # fmt: skip
START_S: Final = Figure(
    "seconds, at most, that bpferry adds to QEMU's own start", 0.15,
    "docs/figures.md", "at most 150 ms over bare QEMU",
)  # fmt: skip
SUPERVISOR_MIB: Final = Figure(
    "MiB, at most, of an idle bpferry beside its QEMU", 32,
    "docs/figures.md", "an idle supervisor at most 32 MiB",
)  # fmt: skip
SET_KB: Final = Figure(
    "KB of the kernel's memory for a set", 43,
    "helper/bpferry_helper/policy/rules.py", "43 KB of kernel memory",
)  # fmt: skip

FIGURES: Final = (LOAD_S, START_S, SUPERVISOR_MIB, SET_KB)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the policy of each node lets one user have."""

    taps: int = rules.DEFAULT_TAPS_PER_USER
    sets: int = rules.DEFAULT_SETS_PER_USER
    taps_at_once: int = rules.DEFAULT_TAPS_AT_ONCE
    loads_at_once: int = rules.DEFAULT_LOADS_AT_ONCE


OF_ALL: Final = Policy(
    rules.DEFAULT_TAPS_IN_TOTAL,
    rules.DEFAULT_SETS_IN_TOTAL,
    rules.DEFAULT_TAPS_IN_TOTAL,
    rules.DEFAULT_SETS_IN_TOTAL,
)
"""One user may have what all may, as docs/clusters.md advises where only a scheduler starts VMs."""

FEW: Final = 5
"""Limits that are shown where all are enough."""


@dataclass(frozen=True, slots=True)
class Slurm:
    """What its controller takes."""

    array: int = 1000
    """MaxArraySize is 1001 by default, one more than the largest index."""
    jobs: int = 10_000
    """MaxJobCount."""


@dataclass(frozen=True, slots=True)
class Bound:
    """How much of one thing is asked for, and how much there is."""

    of: str
    what: str
    asked: int
    limit: int
    source: str

    @property
    def room(self) -> float:
        """How many times as much there could be."""
        return self.limit / self.asked


def bounds(nodes: int, vms: int, policy: Policy, slurm: Slurm | None) -> Iterator[Bound]:
    """Yield each limit, for nodes that each belong to one user, who starts all VMs at once.

    Without *slurm*, its administrator has raised what Slurm limits.
    """
    helper = "a node's helpers"
    yield Bound(helper, "taps of one user", vms, policy.taps, "taps-per-user")
    yield Bound(helper, "sets of one user", vms, policy.sets, "sets-per-user")
    yield Bound(helper, "taps of all users", vms, rules.DEFAULT_TAPS_IN_TOTAL, "taps-in-total")
    yield Bound(helper, "sets of all users", vms, rules.DEFAULT_SETS_IN_TOTAL, "sets-in-total")
    yield Bound(helper, "taps asked for at once", vms, policy.taps_at_once, "taps-at-once")
    yield Bound(helper, "sets asked for at once", vms, policy.loads_at_once, "loads-at-once")
    patient = int(ANSWER_SECONDS / LOAD_S.number)
    yield Bound(helper, "sets until a client gives up", vms, patient, "15 s at 70 ms each")
    yield Bound("a node's bridge", "ports", vms + 1, BRIDGE_PORTS, "br_private.h")
    if slurm is not None:
        yield Bound("Slurm", "tasks of one array", nodes * vms, slurm.array, "MaxArraySize")
        yield Bound("Slurm", "jobs", nodes * vms, slurm.jobs, "MaxJobCount")
    yield Bound("Kubernetes", "pods of a node", vms, 110, "its documentation")
    yield Bound("Kubernetes", "nodes", nodes, 5000, "its documentation")


def refused_in_storm(requests: int, at_once: int, per_second: float, apart_s: float) -> int:
    """Return how many of *requests* of one user, *apart_s* from each other, are answered "busy".

    The helper's bucket has *at_once* tokens, and *per_second* come back. Nobody asks again.
    """
    tokens, refused = float(at_once), 0
    for _ in range(requests):
        if tokens >= 1:
            tokens -= 1
        else:
            refused += 1
        tokens = min(at_once, tokens + per_second * apart_s)
    return refused


def report(nodes: int = NODES, vms: int = VMS, wave: int = WAVE) -> str:
    """Return all of it as text."""
    by_all = bounds(nodes, vms, OF_ALL, None)
    sections = [
        _head(nodes, vms),
        _table("With all defaults", bounds(nodes, vms, Policy(), Slurm())),
        _table("With the limits of all for one user, and Slurm's raised", by_all),
        _storm(vms),
        _upgrade(nodes, vms, wave),
        _amounts(nodes, vms),
    ]
    return "\n\n".join(sections) + "\n"


def _head(nodes: int, vms: int) -> str:
    lines = [f"{nodes:,} nodes with {vms} VMs each: {nodes * vms:,} VMs. Measured:"]
    lines += [f"  {one.number:g} {one.what} ({one.source})" for one in FIGURES]
    return "\n".join(lines)


def _table(title: str, found: Iterator[Bound]) -> str:
    rows = sorted(found, key=lambda bound: bound.room)
    short = [row for row in rows if row.room < 1]
    lines = [title, f"   {'':47}{'asked':>7} {'limit':>7}    room  by"]
    lines += [
        f"   {row.of:17}{row.what:30}{row.asked:7,} {row.limit:7,} {row.room:7.2f}  {row.source}"
        for row in short or rows[:FEW]
    ]
    return "\n".join(lines)


def _storm(vms: int) -> str:
    """Say what becomes of a storm, by how far the starts are apart."""
    lines = [f"A storm: one user starts {vms} VMs on a node, with the policy's defaults"]
    for apart_s in (0.0, 0.05, 0.25):
        taps = refused_in_storm(
            vms, rules.DEFAULT_TAPS_AT_ONCE, rules.DEFAULT_TAPS_PER_SECOND, apart_s
        )
        sets = refused_in_storm(
            vms, rules.DEFAULT_LOADS_AT_ONCE, rules.DEFAULT_LOADS_PER_SECOND, apart_s
        )
        lines.append(f"   {apart_s:4.2f} s apart: {taps} taps and {sets} sets are answered 'busy'")
    return "\n".join(lines)


def _upgrade(nodes: int, vms: int, wave: int) -> str:
    waves = -(-nodes // wave)
    loads_s = vms * LOAD_S.number
    minutes = waves * (STOP_S + loads_s) / 60
    return f"""\
An upgrade of QEMU, {wave} nodes at a time, whose VMs are stopped and started again
   {waves} waves of {wave * vms:,} VMs; {minutes:.0f} minutes if guests power down in {STOP_S} s
   each helper: one search of its QEMUs, one more object of {MAX_REMEMBERED} that it remembers,
   {vms} loads in {loads_s:.1f} s; meanwhile sets of two QEMUs are ready, of at most {MAX_OBJECTS}
   VMs that are not stopped keep their QEMU, and get sets from the object that is remembered"""


def _amounts(nodes: int, vms: int) -> str:
    """Say what has no limit of ours."""
    total = nodes * vms
    same = total**2 / 2 ** (ADDRESS_BITS + 1)
    return f"""\
Amounts
   a node: {vms * SUPERVISOR_MIB.number:g} MiB of bpferry, {vms * SET_KB.number:g} KB of sets, \
{vms * START_S.number:.0f} s of a processor to start all
   one network of all: {total:,} MAC addresses, any two the same with a chance of {same:.1e}
   an image store, for each MiB that a guest reads of its image while it boots:
   {total / 1024:.1f} GiB, or {nodes / 1024:.1f} GiB if the VMs of a node share its cache"""


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description="What many VMs on many nodes ask of each part.")
    for name, number in (("nodes", NODES), ("vms", VMS), ("wave", WAVE)):
        parser.add_argument(f"--{name}", type=int, default=number, metavar="N")
    words = parser.parse_args()
    print(report(words.nodes, words.vms, words.wave), end="")


if __name__ == "__main__":
    main()
