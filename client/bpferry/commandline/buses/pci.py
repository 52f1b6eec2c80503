# SPDX-License-Identifier: LGPL-2.1-or-later
"""PCI buses as far as placing devices on them goes: which slots there are, and who has them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

SLOTS: Final = 32
"""Of one bus (PCI Local Bus 3.0, 3.2.2.3.2)."""

FUNCTIONS: Final = 8
"""Of one slot (as above)."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a bus takes."""

    first: int
    last: int
    """Slots, both included."""
    root_ports: bool = False
    """It is a root bus of PCI Express: ports go there, and devices without hot-plug."""
    automatic: bool = True
    """Devices without an address may be put there."""


BRIDGES: Final = {
    "pci-bridge": Kind(1, SLOTS - 1),
    "i82801b11-bridge": Kind(0, SLOTS - 1),
    "pcie-pci-bridge": Kind(1, SLOTS - 1),
    "pcie-root-port": Kind(0, 0),
    "ioh3420": Kind(0, 0),
    "x3130-upstream": Kind(0, SLOTS - 1, automatic=False),
    "xio3130-downstream": Kind(0, 0),
    "pxb": Kind(0, SLOTS - 1, automatic=False),
    "pxb-pcie": Kind(0, SLOTS - 1, root_ports=True, automatic=False),
}
"""The bus behind each driver that has one."""

CHIPSET: Final = {
    "pc": ((0, 0), (1, 0), (1, 1), (1, 3)),
    "q35": ((0, 0), (0x1F, 0), (0x1F, 2), (0x1F, 3)),
    "virt": ((0, 0),),
}
"""Slots and functions of the root bus that the machine itself has (hw/i386/pc_piix.c, pc_q35.c)."""


@dataclass(slots=True)
class Bus:
    """One bus, and who has which function of which slot."""

    id: str
    index: int
    kind: Kind
    taken: dict[tuple[int, int], str] = field(default_factory=dict)
    """Device ids by slot and function."""

    def find_problem(self, slot: int, function: int) -> str:
        """Return why nothing can be put on a function of a slot; empty if it can."""
        if not (0 <= slot < SLOTS and 0 <= function < FUNCTIONS):
            return f"there is no slot {slot:#x} function {function} on a PCI bus"
        if not self.kind.first <= slot <= self.kind.last:
            return f"there is no slot {slot:#x} on the bus '{self.id}'"
        holder = self.taken.get((slot, function))
        if holder is not None:
            return f"'{holder}' has slot {slot:#x} function {function} of the bus '{self.id}'"
        return ""

    def is_free(self, slot: int) -> bool:
        """Say whether nobody has anything in *slot*."""
        return not any((slot, function) in self.taken for function in range(FUNCTIONS))

    def free_slots(self) -> Iterator[int]:
        """Yield the slots where nobody has anything."""
        used = {slot for slot, _ in self.taken}
        yield from (n for n in range(self.kind.first, self.kind.last + 1) if n not in used)

    def shared_slots(self) -> set[int]:
        """Return the slots of which more than one function is taken."""
        count: dict[int, int] = {}
        for slot, _ in self.taken:
            count[slot] = count.get(slot, 0) + 1
        return {slot for slot, functions in count.items() if functions > 1}
