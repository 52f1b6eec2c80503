# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest's NUMA nodes: which number each has, and which processors belong to it.

As in libvirt, nodes that say no number have that of their place, and processors that no node names
belong to node 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bpferry.commandline.context import unsupported
from bpferry.commandline.numbers import parse_numbers
from bpferry.domain.model.machine import Machine
from bpferry.domain.model.numa import NumaCell


@dataclass(frozen=True, slots=True)
class Node:
    """One node of the guest."""

    number: int
    key: str
    cell: NumaCell
    processors: tuple[int, ...]


def nodes_of(machine: Machine) -> tuple[Node, ...]:
    """Return the nodes by their numbers, which are 0 and so on.

    Raises:
        Unsupported: two have the same number or processor, or there are gaps between the numbers.
    """
    cells = machine.cpu.numa
    found: dict[int, Node] = {}
    for index, cell in enumerate(cells):
        key = f"cpu.numa[{index}]"
        number = index if cell.id is None else cell.id
        if number in found or number >= len(cells):
            raise unsupported(
                f"{key}.id" if cell.id is not None else key,
                f"the numbers of {len(cells)} nodes are 0 to {len(cells) - 1}, each once",
                "number them so, in any order",
            )
        found[number] = Node(number, key, cell, _processors(machine, cell, key))
    _check_processors(list(found.values()))
    return tuple(_with_the_rest(machine, [found[number] for number in sorted(found)]))


def _processors(machine: Machine, cell: NumaCell, key: str) -> tuple[int, ...]:
    if cell.cpus is None:
        return ()
    numbers = parse_numbers(cell.cpus, f"{key}.cpus")
    if numbers[-1] >= machine.vcpus:
        raise unsupported(
            f"{key}.cpus",
            f"the processors of the VM are 0 to {machine.vcpus - 1}, and {numbers[-1]} is named",
        )
    return numbers


def _check_processors(nodes: Sequence[Node]) -> None:
    seen: set[int] = set()
    for node in nodes:
        twice = seen & set(node.processors)
        if twice:
            raise unsupported(
                f"{node.key}.cpus", f"processor {min(twice)} belongs to another node already"
            )
        seen |= set(node.processors)


def _with_the_rest(machine: Machine, nodes: list[Node]) -> list[Node]:
    """Return *nodes* with all processors that none of them has in the first."""
    if not nodes:
        return nodes
    named = {number for node in nodes for number in node.processors}
    rest = [number for number in range(machine.vcpus) if number not in named]
    first = nodes[0]
    processors = tuple(sorted([*first.processors, *rest]))
    return [Node(first.number, first.key, first.cell, processors), *nodes[1:]]
