# SPDX-License-Identifier: LGPL-2.1-or-later
"""PCI buses as far as placing devices goes: what each takes, and which device has which function.

Which kind of device goes on which kind of bus is mostly PCI's rule. The rest is libvirt's: it
leaves the root of PCI Express to ports and to what the chipset contains, so that everything else
can be unplugged (src/conf/domain_addr.c, virDomainPCIAddressBusSetModel).
"""

from collections.abc import Iterable
from functools import cache
from typing import Final

from msgspec import Struct, field

SLOTS: Final = 32
"""Of one bus (PCI Local Bus 3.0, 3.2.2.3.2)."""

FUNCTIONS: Final = 8
"""Of one slot (as above)."""


Connection = frozenset[str]
"""How a device is connected, or what a bus has sockets for: some of ``Connect``."""


class Connect:
    """Each kind of connection, as a set that has it alone.

    A Flag of ``enum`` can do the same, and takes 2 to 3 million instructions more of each start.
    """

    PCI: Final = Connection({"PCI"})
    EXPRESS: Final = Connection({"PCI Express"})
    ROOT_PORT: Final = Connection({"root port"})
    UPSTREAM_PORT: Final = Connection({"upstream port"})
    DOWNSTREAM_PORT: Final = Connection({"downstream port"})
    DMI_BRIDGE: Final = Connection({"DMI bridge"})
    EXPRESS_BRIDGE: Final = Connection({"Express bridge"})
    """From PCI Express to conventional PCI."""
    PCI_BRIDGE: Final = Connection({"PCI bridge"})
    PCI_EXPANDER: Final = Connection({"PCI expander"})
    EXPRESS_EXPANDER: Final = Connection({"Express expander"})
    AUTOMATIC: Final = Connection({"automatic"})
    """A device that goes only to buses that take devices without an address; such a bus."""
    INTEGRATED: Final = Connection({"integrated"})
    """A device that has to be on the root bus, whatever kind that is."""


NONE: Final = Connection()
DEVICE: Final = Connect.PCI | Connect.AUTOMATIC


class Model(Struct, frozen=True):
    """What a PCI controller is connected to, and what can be connected to it."""

    connect: Connection
    takes: Connection
    first: int
    last: int
    """Slots of the bus behind it, both included."""
    drivers: tuple[str, ...] = ()
    """QEMU's devices for it, the usual one first; none for a root."""


_CONVENTIONAL: Final = Connect.PCI | Connect.PCI_BRIDGE
_PORT: Final = Connect.EXPRESS | Connect.UPSTREAM_PORT | Connect.EXPRESS_BRIDGE | Connect.AUTOMATIC
_LAST: Final = SLOTS - 1

MODELS: Final = {
    "pci-root": Model(NONE, _CONVENTIONAL | Connect.PCI_EXPANDER | Connect.AUTOMATIC, 1, _LAST),
    "pcie-root": Model(
        NONE,
        Connect.EXPRESS | Connect.ROOT_PORT | Connect.DMI_BRIDGE | Connect.EXPRESS_EXPANDER,
        1,
        _LAST,
    ),
    "pci-bridge": Model(
        Connect.PCI_BRIDGE, _CONVENTIONAL | Connect.AUTOMATIC, 1, _LAST, ("pci-bridge",)
    ),
    "dmi-to-pci-bridge": Model(
        Connect.DMI_BRIDGE, _CONVENTIONAL, 0, _LAST, ("i82801b11-bridge",)
    ),
    "pcie-to-pci-bridge": Model(
        Connect.EXPRESS_BRIDGE, _CONVENTIONAL | Connect.AUTOMATIC, 1, _LAST, ("pcie-pci-bridge",)
    ),
    "pcie-root-port": Model(Connect.ROOT_PORT, _PORT, 0, 0, ("pcie-root-port", "ioh3420")),
    "pcie-switch-upstream-port": Model(
        Connect.UPSTREAM_PORT, Connect.DOWNSTREAM_PORT, 0, _LAST, ("x3130-upstream",)
    ),
    "pcie-switch-downstream-port": Model(
        Connect.DOWNSTREAM_PORT, _PORT, 0, 0, ("xio3130-downstream",)
    ),
    "pci-expander-bus": Model(
        Connect.PCI_EXPANDER, _CONVENTIONAL | Connect.AUTOMATIC, 0, _LAST, ("pxb",)
    ),
    "pcie-expander-bus": Model(
        Connect.EXPRESS_EXPANDER, Connect.ROOT_PORT | Connect.DMI_BRIDGE, 0, _LAST, ("pxb-pcie",)
    ),
}  # fmt: skip
"""By what libvirt calls them."""

MODEL_OF: Final = {driver: name for name, model in MODELS.items() for driver in model.drivers}
"""libvirt's name of a controller, by the name of QEMU's device."""

CHIPSET: Final = {
    "pc": ((0, 0), (1, 0), (1, 1), (1, 3)),
    "q35": ((0, 0), (0x1F, 0), (0x1F, 2), (0x1F, 3)),
    "virt": ((0, 0),),
}
"""Slots and functions of the root bus that the machine itself has (hw/i386/pc_piix.c, pc_q35.c)."""


class Place(Struct, frozen=True, order=True):
    """A function of a slot of a bus."""

    bus: int
    slot: int
    function: int = 0

    @property
    def addr(self) -> str:
        """What QEMU's property ``addr`` is."""
        return f"{self.slot:#x}.{self.function:#x}" if self.function else f"{self.slot:#x}"


class Bus(Struct):
    """One bus, and who has which function of which slot."""

    index: int
    name: str
    """The name of the model, in MODELS."""
    takes: Connection
    holders: dict[tuple[int, int], str] = field(default_factory=dict)
    """Ids of devices by slot and function."""
    shared: set[int] = field(default_factory=set)
    """Slots whose first function is a root port, and which take others as further functions."""

    @classmethod
    def of(cls, index: int, name: str, takes: Connection | None = None) -> "Bus":
        """Return the bus *index* behind a controller of the model *name*."""
        return cls(index, name, MODELS[name].takes if takes is None else takes)

    @property
    def id(self) -> str:
        """What QEMU calls it."""
        return "pcie.0" if self.name == "pcie-root" else f"pci.{self.index}"

    @property
    def model(self) -> Model:
        """What it is behind."""
        return MODELS[self.name]

    @property
    def slots(self) -> range:
        """The slots of this bus."""
        return range(self.model.first, self.model.last + 1)

    def is_free(self, slot: int) -> bool:
        """Say whether nobody has anything in *slot*."""
        return not any((slot, function) in self.holders for function in range(FUNCTIONS))

    def find_problem(self, slot: int, function: int) -> str:
        """Return why nothing can be put on a function of a slot; empty if it can."""
        if not (0 <= slot < SLOTS and 0 <= function < FUNCTIONS):
            return f"there is no slot {slot:#x} function {function} on a PCI bus"
        holder = self.holders.get((slot, function))
        if holder is not None:
            return f"'{holder}' has slot {slot:#x} function {function} of the bus '{self.id}'"
        if slot not in self.slots:
            return f"there is no slot {slot:#x} on the bus '{self.id}'"
        return ""

    def accepts(self, connect: Connection) -> bool:
        """Say whether a device of this connection may be put here without an address."""
        return _accepts(self.takes, connect, is_root=not self.index)

    def find(
        self, connect: Connection, function: int = 0, slots: Iterable[int] | None = None
    ) -> Place | None:
        """Return a free place for a device, in the first of *slots* that has one.

        That is *function* of an empty slot, or the next function of a slot of root ports.
        """
        if not self.accepts(connect):
            return None
        for slot in self.slots if slots is None else slots:
            if self.is_free(slot):
                return Place(self.index, slot, function)
            if connect >= Connect.ROOT_PORT and slot in self.shared:
                free = (n for n in range(FUNCTIONS) if (slot, n) not in self.holders)
                number = next(free, None)
                if number is not None:
                    return Place(self.index, slot, number)
        return None

    def take(self, place: Place, holder: str, connect: Connection = NONE) -> None:
        """Give *place*, which is free, to the device *holder*."""
        if connect >= Connect.ROOT_PORT and self.is_free(place.slot):
            self.shared.add(place.slot)
        self.holders[place.slot, place.function] = holder

    def several_in(self, slot: int) -> bool:
        """Say whether more than one function of *slot* is taken."""
        return sum((slot, function) in self.holders for function in range(FUNCTIONS)) > 1


# Each device is asked about on each bus. There are few answers, and each takes microseconds.
@cache
def _accepts(takes: Connection, connect: Connection, *, is_root: bool) -> bool:
    if connect >= Connect.INTEGRATED:
        if not is_root:
            return False
        takes |= DEVICE
    if connect >= Connect.AUTOMATIC and not takes >= Connect.AUTOMATIC:
        return False
    return bool((connect & takes) - Connect.AUTOMATIC - Connect.INTEGRATED)
