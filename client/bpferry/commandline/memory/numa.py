# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest's NUMA nodes on the command line: their memory, how far and how fast they are.

The guest finds the speed of memory in ACPI's heterogeneous memory attribute table (HMAT).
"""

from collections.abc import Iterator, Sequence
from typing import Final

from bpferry.commandline.context import Context, mistaken, unsupported
from bpferry.commandline.memory.backing import Block, memory_object
from bpferry.commandline.memory.nodes import Node, nodes_of
from bpferry.commandline.memory.sizes import MIB, round_up
from bpferry.commandline.numbers import format_ranges
from bpferry.commandline.parts import Found, Option, join, json_of
from bpferry.domain.model.cpu import Cpu
from bpferry.domain.model.numa import Bandwidth, Latency, NumaCache
from bpferry.domain.names import Named, listed
from bpferry.errors import Unsupported

NEAR: Final = 10
FAR: Final = 20
"""Default distances of a node to itself and to others (ACPI, SLIT)."""

HIERARCHIES: Final = ("memory", "first-level", "second-level", "third-level")
"""QEMU's words for memory itself and for each level of cache."""

ASSOCIATIVITIES: Final = {"none": "none", "direct": "direct", "full": "complex"}
POLICIES: Final = {"none": "none", "writeback": "write-back", "writethrough": "write-through"}
KIB: Final = 1024


def has_hmat(cpu: Cpu) -> bool:
    """Say whether the guest is told how fast its memory is."""
    return bool(cpu.latencies or cpu.bandwidths or any(cell.caches for cell in cpu.numa))


def machine_properties(context: Context) -> dict[str, object]:
    """Return the properties of the machine that are about nodes."""
    return {"hmat": True} if has_hmat(context.machine.cpu) else {}


def parts(context: Context) -> Iterator[Found]:
    """Yield the nodes, with the object behind the memory of each."""
    cpu = context.machine.cpu
    known = context.capabilities
    if has_hmat(cpu) and not known.has_machine_property(context.machine_type, "hmat"):
        yield unsupported(
            "cpu.numa",
            f"'{context.machine_type}' has no HMAT (memory latencies and bandwidths)",
            "leave out caches and interconnects",
        )
    nodes = nodes_of(context.machine)
    if all(not node.processors for node in nodes):
        raise mistaken("cpu.numa", "no node has a processor", "give at least one node processors")
    for node in nodes:
        if not node.cell.memory:
            yield node.device.refusal(
                "memory", "QEMU needs memory in every node", "give the node some memory"
            )
        size = round_up(node.cell.memory, MIB)
        block = Block(
            id=f"ram-node{node.number}",
            key=node.device.key,
            size=size,
            node=node.number,
            access=node.cell.access,
        )
        yield Option("-object", json_of(memory_object(context, block)))
        yield Option("-numa", _node(node, _initiator(cpu, node, nodes) if has_hmat(cpu) else None))
    yield from _distances(nodes)
    # QEMU takes a cache only after the bandwidths and latencies between nodes.
    yield from _interconnects(cpu, nodes)
    for node in nodes:
        yield from _caches(node)


def _node(node: Node, initiator: int | None) -> str:
    processors = "".join(f",cpus={found}" for found in format_ranges(node.processors))
    source = "" if initiator is None else f",initiator={initiator}"
    return f"node,nodeid={node.number}{processors}{source},memdev=ram-node{node.number}"


def _distances(nodes: Sequence[Node]) -> Iterator[Found]:
    """Yield how far all nodes are from each other, if the document says so for any two."""
    said = {
        (node.number, sibling.id): sibling.value
        for node in nodes
        for sibling in node.cell.distances
    }
    for node in nodes:
        if any(sibling.id >= len(nodes) for sibling in node.cell.distances):
            yield node.device.mistake(
                "distances", "there is no such node", "name nodes of this VM only"
            )
    if not said:
        return
    for source in range(len(nodes)):
        for target in range(len(nodes)):
            usual = NEAR if source == target else FAR
            value = said.get((source, target), said.get((target, source), usual))
            yield Option("-numa", join("dist", src=source, dst=target, val=value))


def _initiator(cpu: Cpu, node: Node, nodes: Sequence[Node]) -> int:
    """Return the node with processors that reaches the memory of *node* best."""
    if node.processors:
        return node.number
    latencies = [one for one in cpu.latencies if one.target == node.number]
    bandwidths = [one for one in cpu.bandwidths if one.target == node.number]
    if latencies:
        return min(latencies, key=lambda one: one.value).initiator
    if bandwidths:
        return max(bandwidths, key=lambda one: one.value).initiator
    return next(other.number for other in nodes if other.processors)


def _interconnects(cpu: Cpu, nodes: Sequence[Node]) -> Iterator[Found]:
    for part in listed(cpu.latencies, "cpu.latencies"):
        yield from _check_ends(part, nodes)
        latency = part.value
        yield Option("-numa", _between(latency, "latency", str(latency.value)))
    for found in listed(cpu.bandwidths, "cpu.bandwidths"):
        yield from _check_ends(found, nodes)
        bandwidth = found.value
        yield Option("-numa", _between(bandwidth, "bandwidth", f"{bandwidth.value // KIB}K"))


def _check_ends(part: Named[Latency | Bandwidth], nodes: Sequence[Node]) -> Iterator[Unsupported]:
    """Yield a refusal of nodes that do not exist, or of initiators without a processor."""
    between = part.value
    ends = {"initiator": between.initiator, "target": between.target}
    for name, number in ends.items():
        if number >= len(nodes):
            yield part.mistake(name, f"there is no node {number}", "name a node of this VM")
        elif name == "initiator" and not nodes[number].processors:
            yield part.mistake(
                name, f"node {number} has no processor", "name a node with processors"
            )


def _between(between: Latency | Bandwidth, what: str, value: str) -> str:
    return join(
        "hmat-lb",
        initiator=between.initiator,
        target=between.target,
        hierarchy=HIERARCHIES[between.cache],
        data_type=f"{between.type}-{what}",
        **{what: value},
    )


def _caches(node: Node) -> Iterator[Found]:
    levels: set[int] = set()
    for cache in node.device.parts("caches", node.cell.caches):
        if cache.value.level in levels:
            yield cache.mistake(
                "level", "this cache is described already", "describe each level once"
            )
        levels.add(cache.value.level)
        yield Option("-numa", _cache(node.number, cache.value))


def _cache(number: int, cache: NumaCache) -> str:
    return join(
        "hmat-cache",
        node_id=number,
        size=f"{cache.size // KIB}K",
        level=cache.level,
        associativity=ASSOCIATIVITIES[cache.associativity],
        policy=POLICIES[cache.policy],
        line=cache.line or None,
    )
