# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest's NUMA nodes on the command line: their memory, how far and how fast they are.

How fast memory is stands in ACPI's heterogeneous memory attribute table (HMAT).
"""

from collections.abc import Iterator, Sequence
from typing import Final

from bpferry.commandline.context import Context, unsupported
from bpferry.commandline.memory.backing import Block, memory_object
from bpferry.commandline.memory.nodes import Node, nodes_of
from bpferry.commandline.memory.sizes import MIB, round_up
from bpferry.commandline.numbers import format_ranges
from bpferry.commandline.parts import Option, join, json_of
from bpferry.domain.model.cpu import Cpu
from bpferry.domain.model.numa import Bandwidth, Latency, NumaCache

NEAR: Final = 10
FAR: Final = 20
"""Distances of a node to itself and to others that are not said (ACPI, SLIT)."""

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
    if not has_hmat(context.machine.cpu):
        return {}
    if not context.capabilities.has_machine_property(context.machine_type, "hmat"):
        raise unsupported(
            "cpu.numa",
            f"'{context.machine_type}' has no table of how fast memory is (HMAT)",
            "leave out caches and interconnects",
        )
    return {"hmat": True}


def parts(context: Context) -> Iterator[Option]:
    """Yield the nodes, with the object behind the memory of each."""
    cpu = context.machine.cpu
    nodes = nodes_of(context.machine)
    if all(not node.processors for node in nodes):
        raise unsupported("cpu.numa", "no node has a processor")
    for node in nodes:
        if not node.cell.memory:
            raise unsupported(f"{node.key}.memory", "QEMU has no nodes without memory")
        size = round_up(node.cell.memory, MIB)
        block = Block(f"ram-node{node.number}", node.key, size, node.number, node.cell.access)
        yield Option("-object", json_of(memory_object(context, block)))
        yield Option("-numa", _node(node, _initiator(cpu, node, nodes) if has_hmat(cpu) else None))
    yield from _distances(nodes)
    # QEMU takes a cache only after what there is between the nodes.
    yield from _interconnects(cpu, nodes)
    for node in nodes:
        yield from _caches(node)


def _node(node: Node, initiator: int | None) -> str:
    processors = "".join(f",cpus={found}" for found in format_ranges(node.processors))
    source = "" if initiator is None else f",initiator={initiator}"
    return f"node,nodeid={node.number}{processors}{source},memdev=ram-node{node.number}"


def _distances(nodes: Sequence[Node]) -> Iterator[Option]:
    """Yield how far all nodes are from each other, if that is said of any two."""
    said = {
        (node.number, sibling.id): sibling.value
        for node in nodes
        for sibling in node.cell.distances
    }
    for node in nodes:
        if any(sibling.id >= len(nodes) for sibling in node.cell.distances):
            raise unsupported(f"{node.key}.distances", "there is no such node")
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


def _interconnects(cpu: Cpu, nodes: Sequence[Node]) -> Iterator[Option]:
    for index, latency in enumerate(cpu.latencies):
        _check_ends(latency, f"cpu.latencies[{index}]", nodes)
        yield Option("-numa", _between(latency, "latency", str(latency.value)))
    for index, bandwidth in enumerate(cpu.bandwidths):
        _check_ends(bandwidth, f"cpu.bandwidths[{index}]", nodes)
        yield Option("-numa", _between(bandwidth, "bandwidth", f"{bandwidth.value // KIB}K"))


def _check_ends(between: Latency | Bandwidth, key: str, nodes: Sequence[Node]) -> None:
    """Refuse what is said of nodes that are not there, or have no processor that could look."""
    ends = {"initiator": between.initiator, "target": between.target}
    for name, number in ends.items():
        if number >= len(nodes):
            raise unsupported(f"{key}.{name}", f"there is no node {number}")
    if not nodes[between.initiator].processors:
        raise unsupported(f"{key}.initiator", f"node {between.initiator} has no processor")


def _between(between: Latency | Bandwidth, what: str, value: str) -> str:
    return join(
        "hmat-lb",
        initiator=between.initiator,
        target=between.target,
        hierarchy=HIERARCHIES[between.cache],
        data_type=f"{between.type}-{what}",
        **{what: value},
    )


def _caches(node: Node) -> Iterator[Option]:
    levels: set[int] = set()
    for index, cache in enumerate(node.cell.caches):
        if cache.level in levels:
            raise unsupported(f"{node.key}.caches[{index}].level", "there is such a cache already")
        levels.add(cache.level)
        yield Option("-numa", _cache(node.number, cache))


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
