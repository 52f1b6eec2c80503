# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest's NUMA nodes: which number each has, and which processors belong to it.

As in libvirt, nodes without a number are numbered by their position, and processors that no node
names belong to node 0.
"""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from bpferry.commandline.numbers import parse_numbers
from bpferry.domain.model.machine import Machine
from bpferry.domain.model.numa import NumaCell
from bpferry.domain.names import Named, listed


class Node(Struct, frozen=True):
    """One node of the guest."""

    number: int
    device: Named[NumaCell]
    processors: tuple[int, ...]

    @property
    def cell(self) -> NumaCell:
        """What the document says of it."""
        return self.device.value


def nodes_of(machine: Machine) -> tuple[Node, ...]:
    """Return the nodes by their numbers, which count up from 0.

    Raises:
        Unsupported: two have the same number or processor, or there are gaps between the numbers.
    """
    cells = machine.cpu.numa
    found: dict[int, Node] = {}
    for place, device in enumerate(listed(cells, "cpu.numa")):
        number = place if device.value.id is None else device.value.id
        if number in found or number >= len(cells):
            raise device.mistake(
                "id" if device.value.id is not None else "",
                f"the numbers of {len(cells)} nodes are 0 to {len(cells) - 1}, each once",
                "use these numbers, in any order",
            )
        found[number] = Node(number, device, _processors(machine, device))
    _check_processors(list(found.values()))
    return tuple(_with_the_rest(machine, [found[number] for number in sorted(found)]))


def _processors(machine: Machine, device: Named[NumaCell]) -> tuple[int, ...]:
    if device.value.cpus is None:
        return ()
    numbers = parse_numbers(device.value.cpus, f"{device.key}.cpus")
    if numbers[-1] >= machine.vcpus:
        raise device.mistake(
            "cpus",
            f"the processors of the VM are 0 to {machine.vcpus - 1}, and {numbers[-1]} is named",
            f"name processors up to {machine.vcpus - 1}, or give the VM more",
        )
    return numbers


def _check_processors(nodes: Sequence[Node]) -> None:
    seen: set[int] = set()
    for node in nodes:
        twice = seen & set(node.processors)
        if twice:
            raise node.device.mistake(
                "cpus",
                f"processor {min(twice)} already belongs to another node",
                "name each processor in one node only",
            )
        seen |= set(node.processors)


def _with_the_rest(machine: Machine, nodes: list[Node]) -> list[Node]:
    """Return *nodes*, with all processors that no node has added to the first."""
    if not nodes:
        return nodes
    named = {number for node in nodes for number in node.processors}
    rest = [number for number in range(machine.vcpus) if number not in named]
    first = nodes[0]
    processors = tuple(sorted([*first.processors, *rest]))
    return [replace(first, processors=processors), *nodes[1:]]
