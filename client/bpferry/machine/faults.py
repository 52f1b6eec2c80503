# SPDX-License-Identifier: LGPL-2.1-or-later
"""One finding about the design of a VM, and how serious it is.

error     it does not work, or not as the description says
warning   it works, but gives less than it seems to
note      it works, but there is something to know, or a better way
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
