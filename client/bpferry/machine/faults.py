# SPDX-License-Identifier: LGPL-2.1-or-later
"""One finding about the design of a VM, and how serious it is.

error     the VM does not start with it
warning   the VM starts, but has less than it seems to, or not what the description says
note      the VM starts, but there is something to know, or a better way
"""

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One finding about a VM."""

    key: str
    """The key of the model."""
    level: Level
    message: str
    cause: str = ""
    """Empty if the message says it."""
    fix: str = ""
    """What to do; empty if there is nothing to do."""
    is_of_plan: bool = False
    """Whether the plan of a card says so, which may change with the helpers' answers."""

    @property
    def sentence(self) -> str:
        """What there is to say, with its cause."""
        return f"{self.message}: {self.cause}" if self.cause else self.message
