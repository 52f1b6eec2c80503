# SPDX-License-Identifier: LGPL-2.1-or-later
"""One finding about a VM, and how serious it is.

error     the VM does not start with it
data-loss the VM starts, and data of its disks may be lost
warning   the VM starts, but has less than it seems to, or not what the description says
note      the VM starts, but there is something to know, or a better way
"""

from collections.abc import Iterable
from typing import Final, Literal

from msgspec import Struct

from bpferry.errors import BpferryError

Level = Literal["error", "data-loss", "warning", "note"]

LEVELS: Final[tuple[Level, ...]] = ("error", "data-loss", "warning", "note")
"""The worst first."""

Kind = Literal["design", "steering", "host", "left-out"]
"""What a finding is about: the description, the plan of a card, this host, or what was left out."""


class Fault(Struct, frozen=True):
    """One finding about a VM."""

    key: str
    """The key of the model."""
    level: Level
    message: str
    cause: str = ""
    """Empty if the message says it."""
    fix: str = ""
    """What to do; empty if there is nothing to do."""
    kind: Kind | str = "design"
    """For an error that is raised elsewhere, its code."""
    element: str = ""
    """The place in the document, as its form names places."""

    @property
    def is_of_plan(self) -> bool:
        """Whether the plan of a card says so, which may change with the helpers' answers."""
        return self.kind == "steering"

    @property
    def sentence(self) -> str:
        """What there is to say, with its cause."""
        return f"{self.message}: {self.cause}" if self.cause else self.message


def fault_of(error: BpferryError) -> Fault:
    """Return *error*, which has its place, as a finding."""
    place = error.element or ""
    return Fault("", "error", error.message, fix=error.hint, kind=error.code, element=place)


def worst_first(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """Return *faults* by how serious they are; equals keep their order."""
    return tuple(sorted(faults, key=lambda fault: LEVELS.index(fault.level)))
